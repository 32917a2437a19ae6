// Application Insights: one row a request, under the name of the operation. It takes telemetry from our identity
// alone, and it forgets the client's address before storing the row.

import { principal, roles } from 'types.bicep'

@description('Region.')
param location string

@description('Name of the component.')
param name string

@description('Workspace that the rows are kept in.')
param workspaceId string

@description('Object id of the identity that the service runs as: it sends telemetry.')
param appPrincipalId string

@description('People who may look at it.')
param operators principal[]

@description('Tags.')
param tags { *: string }

resource component 'Microsoft.Insights/components@2020-02-02' = {
  name: name
  location: location
  tags: tags
  kind: 'web'
  properties: {
    Application_Type: 'web'
    WorkspaceResourceId: workspaceId
    DisableIpMasking: false
    DisableLocalAuth: true
  }
}

resource appAccess 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: component
  name: guid(component.id, appPrincipalId, roles.monitoringMetricsPublisher)
  properties: {
    principalId: appPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId(
      'Microsoft.Authorization/roleDefinitions',
      roles.monitoringMetricsPublisher
    )
  }
}

resource operatorAccess 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for person in operators: {
    scope: component
    name: guid(component.id, person.id, roles.monitoringReader)
    properties: {
      principalId: person.id
      principalType: person.type
      roleDefinitionId: subscriptionResourceId(
        'Microsoft.Authorization/roleDefinitions',
        roles.monitoringReader
      )
    }
  }
]

@description('Where telemetry goes. No secret: without a token of our identity nothing is taken.')
output connectionString string = component.properties.ConnectionString
