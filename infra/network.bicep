// Optional isolation: storage and vault are reached from this network alone. The app itself stays public, because
// desktops everywhere call it.

@description('Region.')
param location string

@description('Name of the network.')
param name string

@description('Addresses of the network, a /24: one half for the app, the other for private endpoints.')
param addressSpace string

@description('A service that gets a private endpoint.')
type target = {
  @description('Name of the endpoint.')
  name: string

  @description('Resource that it leads to.')
  resourceId: string

  @description('Which of the resource\'s services.')
  service: 'blob' | 'table' | 'vault'
}

@description('What is reached through the network.')
param targets target[]

@description('Tags.')
param tags { *: string }

var zoneNames = {
  blob: 'privatelink.blob.${environment().suffixes.storage}'
  table: 'privatelink.table.${environment().suffixes.storage}'
  vault: 'privatelink${replace(environment().suffixes.keyvaultDns, '.vault.', '.vaultcore.')}'
}
var services = ['blob', 'table', 'vault']

resource network 'Microsoft.Network/virtualNetworks@2025-05-01' = {
  name: name
  location: location
  tags: tags
  properties: {
    addressSpace: { addressPrefixes: [addressSpace] }
    subnets: [
      {
        name: 'app'
        properties: {
          addressPrefix: cidrSubnet(addressSpace, 25, 0)
          delegations: [{ name: 'flex', properties: { serviceName: 'Microsoft.App/environments' } }]
          networkSecurityGroup: { id: securityGroup.id }
        }
      }
      {
        name: 'endpoints'
        properties: {
          addressPrefix: cidrSubnet(addressSpace, 25, 1)
          networkSecurityGroup: { id: securityGroup.id }
          privateEndpointNetworkPolicies: 'NetworkSecurityGroupEnabled'
        }
      }
    ]
  }

  resource appSubnet 'subnets' existing = { name: 'app' }
  resource endpointSubnet 'subnets' existing = { name: 'endpoints' }
}

// Azure's default rules are the right ones: in from the network itself, nothing in from the internet.
resource securityGroup 'Microsoft.Network/networkSecurityGroups@2025-05-01' = {
  name: '${name}-guard'
  location: location
  tags: tags
}

// A private zone is a global service. It holds names and private addresses of our own resources, nothing of users.
resource zones 'Microsoft.Network/privateDnsZones@2024-06-01' = [
  for service in services: {
    name: zoneNames[service]
    location: 'global'
    tags: tags
  }
]

resource links 'Microsoft.Network/privateDnsZones/virtualNetworkLinks@2024-06-01' = [
  for (service, index) in services: {
    parent: zones[index]
    name: name
    location: 'global'
    tags: tags
    properties: { registrationEnabled: false, virtualNetwork: { id: network.id } }
  }
]

resource endpoints 'Microsoft.Network/privateEndpoints@2025-05-01' = [
  for target in targets: {
    name: target.name
    location: location
    tags: tags
    properties: {
      subnet: { id: network::endpointSubnet.id }
      privateLinkServiceConnections: [
        {
          name: target.service
          properties: { privateLinkServiceId: target.resourceId, groupIds: [target.service] }
        }
      ]
    }
  }
]

resource zoneGroups 'Microsoft.Network/privateEndpoints/privateDnsZoneGroups@2025-05-01' = [
  for (target, index) in targets: {
    parent: endpoints[index]
    name: 'default'
    properties: {
      privateDnsZoneConfigs: [
        {
          name: target.service
          properties: { privateDnsZoneId: zones[indexOf(services, target.service)].id }
        }
      ]
    }
  }
]

@description('Subnet that the app runs in.')
output appSubnetId string = network::appSubnet.id
