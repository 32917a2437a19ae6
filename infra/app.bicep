// The function app on Flex Consumption, and every setting of the service.

import { publicKeySet } from 'types.bicep'

@description('Region.')
param location string

@description('Name of the app, unique in the world.')
param name string

@description('Name of the plan; Flex Consumption takes one app a plan.')
param planName string

@description('Name of the user-assigned identity; it exists already.')
param identityName string

@description('Client id of that identity.')
param identityClientId string

@description('Blob endpoint of the host\'s storage account, with the final slash.')
param hostBlobEndpoint string

@description('Container that holds the deployment package.')
param packageContainer string

@description('Table endpoint of the register.')
param registerTableEndpoint string

@description('Vault that holds the lease keys and peppers.')
param vaultName string

@description('Where telemetry goes.')
param insightsConnectionString string

@description('Subnet from which the app reaches storage and vault; null: over the public network.')
param subnetId string?

@description('Instances that are always running, so that no start waits for one.')
param alwaysReady int

@description('Memory of an instance, in MB; the processor\'s share grows with it.')
param instanceMemory int

@description('Most instances at once: a bound on what a flood of requests can cost.')
param maximumInstances int

@description('Public keys that license files are signed with.')
param issuerKeys publicKeySet

@description('Proxies of ours in front of the app; Azure\'s own front end is the first.')
param trustedHops int

@description('Version of the privacy policy, sent in every start reply.')
param policyVersion string

@description('Where the privacy policy can be read.')
param policyUrl string

@description('Groups of fewer people than this are left out of totals that outlive the year.')
param smallGroup int

@description('Seconds for which heartbeats may use a cached license state.')
param statusCacheSeconds int

@description('Tags.')
param tags { *: string }

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' existing = {
  name: identityName
}

resource plan 'Microsoft.Web/serverfarms@2025-03-01' = {
  name: planName
  location: location
  tags: tags
  kind: 'functionapp'
  sku: { name: 'FC1', tier: 'FlexConsumption' }
  properties: { reserved: true }
}

resource site 'Microsoft.Web/sites@2025-03-01' = {
  name: name
  location: location
  tags: union(tags, { 'azd-service-name': 'api' })
  kind: 'functionapp,linux'
  identity: { type: 'UserAssigned', userAssignedIdentities: { '${identity.id}': {} } }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    keyVaultReferenceIdentity: identity.id
    virtualNetworkSubnetId: subnetId
    siteConfig: { minTlsVersion: '1.2' }
    functionAppConfig: {
      runtime: { name: 'python', version: '3.13' }
      deployment: {
        storage: {
          type: 'blobContainer'
          value: '${hostBlobEndpoint}${packageContainer}'
          authentication: {
            type: 'UserAssignedIdentity'
            userAssignedIdentityResourceId: identity.id
          }
        }
      }
      scaleAndConcurrency: {
        instanceMemoryMB: instanceMemory
        maximumInstanceCount: maximumInstances
        alwaysReady: alwaysReady > 0 ? [{ name: 'http', instanceCount: alwaysReady }] : []
        // Python's default is one request at a time. Batches form from requests that wait together.
        triggers: { http: { perInstanceConcurrency: 100 } }
      }
    }
  }

  resource settings 'config' = {
    name: 'appsettings'
    properties: {
      APPLICATIONINSIGHTS_AUTHENTICATION_STRING: 'ClientId=${identityClientId};Authorization=AAD'
      APPLICATIONINSIGHTS_CONNECTION_STRING: insightsConnectionString
      AzureWebJobsStorage__blobServiceUri: hostBlobEndpoint
      AzureWebJobsStorage__clientId: identityClientId
      AzureWebJobsStorage__credential: 'managedidentity'
      LICENSING_STATUS_CACHE_SECONDS: string(statusCacheSeconds)
      LICENSING_ISSUER_KEYS: string(issuerKeys)
      // No version in the reference: a rotated secret is taken up within a day, or at once by a restart.
      LICENSING_LEASE_KEYS: '@Microsoft.KeyVault(VaultName=${vaultName};SecretName=lease-keys)'
      LICENSING_PEPPERS: '@Microsoft.KeyVault(VaultName=${vaultName};SecretName=peppers)'
      LICENSING_POLICY_URL: policyUrl
      LICENSING_POLICY_VERSION: policyVersion
      LICENSING_SMALL_GROUP: string(smallGroup)
      LICENSING_STORAGE__clientId: identityClientId
      LICENSING_STORAGE__tableServiceUri: registerTableEndpoint
      LICENSING_TRUSTED_HOPS: string(trustedHops)
    }
  }

  // Deployments use an Entra token. The publishing passwords would be a second way in, so they are off.
  resource deploymentPassword 'basicPublishingCredentialsPolicies' = {
    name: 'scm'
    properties: { allow: false }
  }

  resource ftpPassword 'basicPublishingCredentialsPolicies' = {
    name: 'ftp'
    properties: { allow: false }
  }
}

@description('Where desktops reach the service.')
output uri string = 'https://${site.properties.defaultHostName}'
