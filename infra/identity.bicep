// The identity of the service. It has no password and no key.

@description('Region.')
param location string

@description('Name of the identity.')
param name string

@description('Tags.')
param tags { *: string }

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' = {
  name: name
  location: location
  tags: tags
}

@description('Object id, which roles are given to.')
output principalId string = identity.properties.principalId

@description('Client id, which the service asks tokens with.')
output clientId string = identity.properties.clientId
