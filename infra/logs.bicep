// The workspace that every log goes to: requests, the jobs' own lines, and the log of who accessed the register.

import { principal, roles } from 'types.bicep'

@description('Region.')
param location string

@description('Name of the workspace.')
param name string

@description('Days that logs are kept. Less than the register\'s year, for the access log holds the keys of rows.')
@minValue(30)
@maxValue(365)
param days int

@description('People who may read the logs.')
param readers principal[]

@description('Tags.')
param tags { *: string }

resource workspace 'Microsoft.OperationalInsights/workspaces@2025-07-01' = {
  name: name
  location: location
  tags: tags
  properties: {
    sku: { name: 'PerGB2018' }
    retentionInDays: days
    features: { disableLocalAuth: true }
  }
}

resource readerAccess 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for person in readers: {
    scope: workspace
    name: guid(workspace.id, person.id, roles.logAnalyticsReader)
    properties: {
      principalId: person.id
      principalType: person.type
      roleDefinitionId: subscriptionResourceId(
        'Microsoft.Authorization/roleDefinitions',
        roles.logAnalyticsReader
      )
    }
  }
]

@description('The workspace.')
output id string = workspace.id
