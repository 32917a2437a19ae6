// The register: its three tables, who may read and write them, the log of who did, and the lock against deletion.

import { principal, roles } from 'types.bicep'

@description('The storage account that holds the register; it exists already.')
param accountName string

@description('Object id of the identity that the service runs as.')
param appPrincipalId string

@description('People who run the command line on the register: they read and write.')
param operators principal[]

@description('People who look at the register and change nothing.')
param auditors principal[]

@description('Log Analytics workspace that logs every access.')
param workspaceId string

@description('Whether a lock keeps the account from being deleted.')
param keep bool

resource account 'Microsoft.Storage/storageAccounts@2025-06-01' existing = {
  name: accountName

  resource tableService 'tableServices' = {
    name: 'default'

    resource tables 'tables' = [for table in ['register', 'directory', 'audit']: { name: table }]
  }
}

resource lock 'Microsoft.Authorization/locks@2020-05-01' = if (keep) {
  scope: account
  name: 'keep-the-register'
  properties: {
    level: 'CanNotDelete'
    notes: 'Tearing the service down leaves the register. docs/operations.md says how to delete it too.'
  }
}

// Reads are logged too: supervision of who looked at the register is part of its protection.
#disable-next-line use-recent-api-versions // The version that knows category groups and per-table destinations; the one stable version lacks them.
resource accessLog 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  scope: account::tableService
  name: 'access-log'
  properties: {
    workspaceId: workspaceId
    logs: [
      { category: 'StorageRead', enabled: true }
      { category: 'StorageWrite', enabled: true }
      { category: 'StorageDelete', enabled: true }
    ]
  }
}

resource appAccess 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: account
  name: guid(account.id, appPrincipalId, roles.storageTableDataContributor)
  properties: {
    principalId: appPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId(
      'Microsoft.Authorization/roleDefinitions',
      roles.storageTableDataContributor
    )
  }
}

resource operatorAccess 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for person in operators: {
    scope: account
    name: guid(account.id, person.id, roles.storageTableDataContributor)
    properties: {
      principalId: person.id
      principalType: person.type
      roleDefinitionId: subscriptionResourceId(
        'Microsoft.Authorization/roleDefinitions',
        roles.storageTableDataContributor
      )
    }
  }
]

resource auditorAccess 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for person in auditors: {
    scope: account
    name: guid(account.id, person.id, roles.storageTableDataReader)
    properties: {
      principalId: person.id
      principalType: person.type
      roleDefinitionId: subscriptionResourceId(
        'Microsoft.Authorization/roleDefinitions',
        roles.storageTableDataReader
      )
    }
  }
]
