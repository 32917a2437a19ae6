// The operator's page: what was asked, how fast it was answered, what the jobs did, and who accessed the register.

import { principal, roles } from 'types.bicep'

@description('Region.')
param location string

@description('Name that people see.')
param title string

@description('Workspace that the page reads.')
param workspaceId string

@description('People who may open it.')
param operators principal[]

@description('Tags.')
param tags { *: string }

var panels = [
  { title: 'Operations by outcome', chart: 'table', query: loadTextContent('queries/operations.kql') }
  { title: 'Starts an hour, by status', chart: 'timechart', query: loadTextContent('queries/starts.kql') }
  {
    title: 'Answer time, 50 and 99 of a hundred'
    chart: 'timechart'
    query: loadTextContent('queries/latency.kql')
  }
  {
    title: 'Storage calls by operation and status'
    chart: 'table'
    query: loadTextContent('queries/storage-calls.kql')
  }
  { title: 'Runs of sweep and retention', chart: 'table', query: loadTextContent('queries/jobs.kql') }
  {
    title: 'People who reached the register or the vault'
    chart: 'table'
    query: loadTextContent('queries/people.kql')
  }
]

var content = {
  version: 'Notebook/1.0'
  items: concat(
    [
      {
        type: 9
        name: 'period'
        content: {
          version: 'KqlParameterItem/1.0'
          parameters: [
            {
              name: 'Period'
              label: 'Period'
              type: 4
              isRequired: true
              value: { durationMs: 86400000 }
              typeSettings: {
                selectableValues: [
                  { durationMs: 3600000 }
                  { durationMs: 86400000 }
                  { durationMs: 604800000 }
                  { durationMs: 2592000000 }
                ]
              }
            }
          ]
        }
      }
    ],
    map(panels, panel => {
      type: 3
      name: panel.title
      content: {
        version: 'KqlItem/1.0'
        title: panel.title
        query: panel.query
        size: 0
        timeContextFromParameter: 'Period'
        queryType: 0
        resourceType: 'microsoft.operationalinsights/workspaces'
        visualization: panel.chart
      }
    })
  )
  fallbackResourceIds: [workspaceId]
}

resource workbook 'Microsoft.Insights/workbooks@2023-06-01' = {
  name: guid(resourceGroup().id, 'operator')
  location: location
  tags: tags
  kind: 'shared'
  properties: {
    displayName: title
    category: 'workbook'
    sourceId: workspaceId
    serializedData: string(content)
  }
}

resource operatorAccess 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for person in operators: {
    scope: workbook
    name: guid(workbook.id, person.id, roles.workbookReader)
    properties: {
      principalId: person.id
      principalType: person.type
      roleDefinitionId: subscriptionResourceId(
        'Microsoft.Authorization/roleDefinitions',
        roles.workbookReader
      )
    }
  }
]
