// What the Functions host needs of its own storage account: a place for the package, and leases for the timers.

import { roles } from 'types.bicep'

@description('The storage account of the host; it exists already.')
param accountName string

@description('Object id of the identity that the service runs as.')
param appPrincipalId string

@description('Container that holds the deployment package.')
param packageContainer string

resource account 'Microsoft.Storage/storageAccounts@2025-06-01' existing = {
  name: accountName

  resource blobService 'blobServices' = {
    name: 'default'

    resource packages 'containers' = {
      name: packageContainer
      properties: { publicAccess: 'None' }
    }
  }
}

// Blobs alone: there is no queue trigger, and the host does without its table of diagnostic events.
resource appAccess 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: account
  name: guid(account.id, appPrincipalId, roles.storageBlobDataOwner)
  properties: {
    principalId: appPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId(
      'Microsoft.Authorization/roleDefinitions',
      roles.storageBlobDataOwner
    )
  }
}
