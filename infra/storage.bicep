// One closed storage account: no keys, no public blobs, no old TLS. The register and the host each get one.

@description('Region, and so where the data is.')
param location string

@description('Name of the account, unique in the world.')
@minLength(3)
@maxLength(24)
param name string

import { redundancyKind } from 'types.bicep'

@description('How many copies of the data there are, and where.')
param redundancy redundancyKind

@description('Whether the account is reached through private endpoints alone.')
param isolated bool

@description('Tags.')
param tags { *: string }

resource account 'Microsoft.Storage/storageAccounts@2025-06-01' = {
  name: name
  location: location
  tags: tags
  kind: 'StorageV2'
  sku: { name: 'Standard_${redundancy}' }
  properties: {
    allowBlobPublicAccess: false
    allowCrossTenantReplication: false
    allowSharedKeyAccess: false
    defaultToOAuthAuthentication: true
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
    publicNetworkAccess: isolated ? 'Disabled' : 'Enabled'
    networkAcls: {
      defaultAction: isolated ? 'Deny' : 'Allow'
      bypass: 'None'
    }
  }
}

@description('The account.')
output id string = account.id

@description('URL of its table service.')
output tableEndpoint string = account.properties.primaryEndpoints.table

@description('URL of its blob service.')
output blobEndpoint string = account.properties.primaryEndpoints.blob
