// The vault of lease keys and peppers. The templates never see a secret: docs/operations.md puts them in.

import { principal, roles } from 'types.bicep'

@description('Region.')
param location string

@description('Name of the vault, unique in the world.')
@minLength(3)
@maxLength(24)
param name string

@description('Object id of the identity that the service runs as: it reads secrets.')
param appPrincipalId string

@description('People who put keys in and rotate them.')
param operators principal[]

@description('Log Analytics workspace that logs every access.')
param workspaceId string

@description('Whether the vault is reached through a private endpoint alone.')
param isolated bool

@description('Whether a lock keeps the vault from being deleted.')
param keep bool

@description('Tags.')
param tags { *: string }

resource vault 'Microsoft.KeyVault/vaults@2025-05-01' = {
  name: name
  location: location
  tags: tags
  properties: {
    tenantId: tenant().tenantId
    sku: { family: 'A', name: 'standard' }
    enableRbacAuthorization: true
    enableSoftDelete: true
    softDeleteRetentionInDays: 90
    enablePurgeProtection: true
    publicNetworkAccess: isolated ? 'Disabled' : 'Enabled'
    networkAcls: {
      defaultAction: isolated ? 'Deny' : 'Allow'
      bypass: 'None'
    }
  }
}

resource lock 'Microsoft.Authorization/locks@2020-05-01' = if (keep) {
  scope: vault
  name: 'keep-the-keys'
  properties: {
    level: 'CanNotDelete'
    notes: 'Without the peppers nobody is found in the register again; without the lease keys running programs must start anew.'
  }
}

#disable-next-line use-recent-api-versions // The version that knows category groups and per-table destinations; the one stable version lacks them.
resource accessLog 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  scope: vault
  name: 'access-log'
  properties: {
    workspaceId: workspaceId
    logAnalyticsDestinationType: 'Dedicated'
    logs: [{ categoryGroup: 'audit', enabled: true }]
  }
}

resource appAccess 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: vault
  name: guid(vault.id, appPrincipalId, roles.keyVaultSecretsUser)
  properties: {
    principalId: appPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId(
      'Microsoft.Authorization/roleDefinitions',
      roles.keyVaultSecretsUser
    )
  }
}

resource operatorAccess 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for person in operators: {
    scope: vault
    name: guid(vault.id, person.id, roles.keyVaultSecretsOfficer)
    properties: {
      principalId: person.id
      principalType: person.type
      roleDefinitionId: subscriptionResourceId(
        'Microsoft.Authorization/roleDefinitions',
        roles.keyVaultSecretsOfficer
      )
    }
  }
]

@description('The vault.')
output id string = vault.id

@description('Its name, which references to secrets carry.')
output name string = vault.name
