// The whole deployment. Two resource groups with two lifetimes: `rg-<env>` runs the service and may be deleted and
// made again at any time; `rg-<env>-register` holds what must outlive it: the register, the keys, and the log of who
// accessed them.

targetScope = 'subscription'

import { principal, publicKeySet, redundancyKind } from 'types.bicep'

@description('Name of the azd environment; part of every name.')
@minLength(1)
@maxLength(32)
param environmentName string

@description('Region of everything. Only regions inside the EU/EEA: the privacy policy (9) forbids any other.')
@allowed([
  'austriaeast'
  'belgiumcentral'
  'denmarkeast'
  'francecentral'
  'germanywestcentral'
  'italynorth'
  'northeurope'
  'norwayeast'
  'polandcentral'
  'spaincentral'
  'swedencentral'
  'westeurope'
])
@metadata({ azd: { type: 'location' } })
param location string

@description('Copies of the register: LRS or ZRS in any region; GRS or GZRS only where the paired region is in the EU/EEA as well.')
param redundancy redundancyKind = 'ZRS'

@description('Reach storage and vault through a private network only. People then need a way into that network too.')
param isolated bool = false

@description('Addresses of that network, a /24.')
param addressSpace string = '10.90.0.0/24'

@description('Instances that are always running, so that a start never waits for one; 0 pays for use alone.')
@minValue(0)
@maxValue(20)
param alwaysReady int = 1

@description('Memory of an instance, in MB.')
@allowed([512, 2048, 4096])
param instanceMemory int = 2048

@description('Most instances at once.')
@minValue(1)
@maxValue(1000)
param maximumInstances int = 40

@description('Public keys that license files are signed with (LICENSING_ISSUER_KEYS).')
param issuerKeys publicKeySet

@description('Version of the privacy policy (LICENSING_POLICY_VERSION).')
@minLength(1)
param policyVersion string

@description('Where the privacy policy can be read (LICENSING_POLICY_URL).')
@minLength(1)
param policyUrl string

@description('Proxies in front of the app, Azure\'s own included (LICENSING_TRUSTED_HOPS). With a wrong number, callers choose their own address.')
@minValue(1)
@maxValue(10)
param trustedHops int = 1

@description('Groups of fewer people are left out of totals that outlive the year (LICENSING_SMALL_GROUP).')
@minValue(2)
@maxValue(1000)
param smallGroup int = 3

@description('Seconds until a suspension takes effect on heartbeats (LICENSING_STATUS_CACHE_SECONDS).')
@minValue(0)
@maxValue(60)
param statusCacheSeconds int = 60

@description('People who operate the service: read and write the register, put keys into the vault, read the logs.')
param operators principal[] = []

@description('People who look at the register and the logs, and change nothing.')
param auditors principal[] = []

@description('Mail addresses that alerts and the budget go to.')
@minLength(1)
param alertEmails string[]

@description('Budget a month, in the currency that the subscription is billed in; 0 for none.')
@minValue(0)
param monthlyBudget int = 100

@description('First day of the month of the first deployment, YYYY-MM-01. It stays: Azure refuses a budget whose start changes.')
@minLength(10)
@maxLength(10)
param budgetStart string

@description('Days that logs are kept.')
@minValue(30)
@maxValue(365)
param logDays int = 90

@description('Lock the register and the vault against deletion. Off only for an environment that is meant to be thrown away.')
param keepRegister bool = true

// The pairs of these regions lie inside the EU/EEA; the other regions have no pair.
var pairedRegions = [
  'francecentral'
  'germanywestcentral'
  'northeurope'
  'norwayeast'
  'swedencentral'
  'westeurope'
]
var registerRedundancy = contains(['GRS', 'GZRS'], redundancy) && !contains(pairedRegions, location)
  ? fail('${location} has no paired region: choose redundancy LRS or ZRS')
  : redundancy

var token = uniqueString(subscription().id, environmentName, location)
var tags = { 'azd-env-name': environmentName }
var packageContainer = 'packages'
var names = {
  app: 'func-${token}'
  host: 'sthost${token}'
  identity: 'id-${token}'
  insights: 'appi-${token}'
  logs: 'log-${token}'
  network: 'vnet-${token}'
  plan: 'plan-${token}'
  register: 'streg${token}'
  vault: 'kv-${token}'
}

resource serviceGroup 'Microsoft.Resources/resourceGroups@2025-04-01' = {
  name: 'rg-${environmentName}'
  location: location
  tags: tags
}

resource registerGroup 'Microsoft.Resources/resourceGroups@2025-04-01' = {
  name: 'rg-${environmentName}-register'
  location: location
  tags: tags
}

module identity 'identity.bicep' = {
  scope: serviceGroup
  name: 'identity'
  params: { location: location, name: names.identity, tags: tags }
}

module logs 'logs.bicep' = {
  scope: registerGroup
  name: 'logs'
  params: {
    location: location
    name: names.logs
    days: logDays
    readers: concat(operators, auditors)
    tags: tags
  }
}

module hostStorage 'storage.bicep' = {
  scope: serviceGroup
  name: 'host-storage'
  params: { location: location, name: names.host, redundancy: 'ZRS', isolated: isolated, tags: tags }
}

module host 'host.bicep' = {
  scope: serviceGroup
  name: 'host'
  params: {
    accountName: names.host
    appPrincipalId: identity.outputs.principalId
    packageContainer: packageContainer
  }
  dependsOn: [hostStorage]
}

module registerStorage 'storage.bicep' = {
  scope: registerGroup
  name: 'register-storage'
  params: {
    location: location
    name: names.register
    redundancy: registerRedundancy
    isolated: isolated
    tags: tags
  }
}

module register 'register.bicep' = {
  scope: registerGroup
  name: 'register'
  params: {
    accountName: names.register
    appPrincipalId: identity.outputs.principalId
    operators: operators
    auditors: auditors
    workspaceId: logs.outputs.id
    keep: keepRegister
  }
  dependsOn: [registerStorage]
}

module vault 'vault.bicep' = {
  scope: registerGroup
  name: 'vault'
  params: {
    location: location
    name: names.vault
    appPrincipalId: identity.outputs.principalId
    operators: operators
    workspaceId: logs.outputs.id
    isolated: isolated
    keep: keepRegister
    tags: tags
  }
}

module insights 'insights.bicep' = {
  scope: serviceGroup
  name: 'insights'
  params: {
    location: location
    name: names.insights
    workspaceId: logs.outputs.id
    appPrincipalId: identity.outputs.principalId
    operators: operators
    tags: tags
  }
}

module network 'network.bicep' = if (isolated) {
  scope: serviceGroup
  name: 'network'
  params: {
    location: location
    name: names.network
    addressSpace: addressSpace
    targets: [
      { name: 'pe-host-blob', resourceId: hostStorage.outputs.id, service: 'blob' }
      { name: 'pe-register-table', resourceId: registerStorage.outputs.id, service: 'table' }
      { name: 'pe-vault', resourceId: vault.outputs.id, service: 'vault' }
    ]
    tags: tags
  }
}

module app 'app.bicep' = {
  scope: serviceGroup
  name: 'app'
  params: {
    location: location
    name: names.app
    planName: names.plan
    identityName: names.identity
    identityClientId: identity.outputs.clientId
    hostBlobEndpoint: hostStorage.outputs.blobEndpoint
    packageContainer: packageContainer
    registerTableEndpoint: registerStorage.outputs.tableEndpoint
    vaultName: vault.outputs.name
    insightsConnectionString: insights.outputs.connectionString
    subnetId: network.?outputs.appSubnetId
    alwaysReady: alwaysReady
    instanceMemory: instanceMemory
    maximumInstances: maximumInstances
    issuerKeys: issuerKeys
    trustedHops: trustedHops
    policyVersion: policyVersion
    policyUrl: policyUrl
    smallGroup: smallGroup
    statusCacheSeconds: statusCacheSeconds
    tags: tags
  }
  // The app must find its roles in place when it starts.
  dependsOn: [host, register]
}

module alerts 'alerts.bicep' = {
  scope: serviceGroup
  name: 'alerts'
  params: {
    location: location
    workspaceId: logs.outputs.id
    emails: alertEmails
    environmentName: environmentName
    tags: tags
  }
}

module workbook 'workbook.bicep' = {
  scope: serviceGroup
  name: 'workbook'
  params: {
    location: location
    title: 'Licensing ${environmentName}'
    workspaceId: logs.outputs.id
    operators: operators
    tags: tags
  }
}

module budget 'budget.bicep' = if (monthlyBudget > 0) {
  name: 'budget-${environmentName}'
  params: {
    name: 'licensing-${environmentName}'
    resourceGroupNames: [serviceGroup.name, registerGroup.name]
    amount: monthlyBudget
    start: budgetStart
    emails: alertEmails
  }
}

// azd keeps outputs as environment variables. None is a secret.

@description('Region.')
output AZURE_LOCATION string = location

@description('Resource group that azd deploys the package to.')
output AZURE_RESOURCE_GROUP string = serviceGroup.name

@description('Resource group that outlives the service.')
output LICENSING_REGISTER_GROUP string = registerGroup.name

@description('Name of the function app.')
output AZURE_FUNCTION_APP_NAME string = names.app

@description('Vault that the keys go into.')
output AZURE_KEY_VAULT_NAME string = names.vault

@description('Where desktops reach the service: the `service` of license files is this and `/api`.')
output SERVICE_API_URI string = app.outputs.uri

@description('The register, as the command line wants it named.')
output LICENSING_STORAGE__tableServiceUri string = registerStorage.outputs.tableEndpoint
