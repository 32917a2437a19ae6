// Alerts. Each is a query that returns a row when somebody has to act, and nothing otherwise; docs/operations.md
// says for each what to do. The queries rest on the log lines that docs/operations.md sets down as a contract.

@description('Region.')
param location string

@description('Workspace that the queries read.')
param workspaceId string

@description('Mail addresses that alerts go to.')
param emails string[]

@description('Name of the environment, named in every message.')
param environmentName string

@description('Tags.')
param tags { *: string }

var alerts = [
  {
    name: 'failed-starts'
    title: 'Starts fail'
    severity: 1
    every: 'PT5M'
    window: 'PT15M'
    query: loadTextContent('queries/failed-starts.kql')
  }
  {
    name: 'storage-unavailable'
    title: 'Storage refuses or cannot be reached'
    severity: 1
    every: 'PT5M'
    window: 'PT15M'
    query: loadTextContent('queries/storage-unavailable.kql')
  }
  {
    name: 'storage-throttled'
    title: 'Storage throttles the register'
    severity: 2
    every: 'PT5M'
    window: 'PT15M'
    query: loadTextContent('queries/storage-throttled.kql')
  }
  {
    name: 'sweep-not-run'
    title: 'No sweep has gone through for half an hour'
    severity: 2
    every: 'PT15M'
    window: 'PT30M'
    query: loadTextContent('queries/sweep-not-run.kql')
  }
  {
    name: 'retention-not-run'
    title: 'Retention has not run for 26 hours'
    severity: 2
    every: 'PT1H'
    window: 'P1D'
    query: loadTextContent('queries/retention-not-run.kql')
  }
  {
    name: 'row-past-its-year'
    title: 'The register holds a session past its year'
    severity: 1
    every: 'PT1H'
    window: 'P1D'
    query: loadTextContent('queries/row-past-its-year.kql')
  }
  {
    name: 'unusual-denials'
    title: 'Unusually many starts are refused'
    severity: 3
    every: 'PT1H'
    window: 'P1D'
    query: loadTextContent('queries/unusual-denials.kql')
  }
]

resource people 'Microsoft.Insights/actionGroups@2023-01-01' = {
  name: 'ag-${environmentName}'
  // Messages are made in the action group's own region: these two are the ones that Azure offers inside the EU,
  // and the usual 'global' is processed anywhere in the world.
  location: location == 'swedencentral' ? 'swedencentral' : 'germanywestcentral'
  tags: tags
  properties: {
    groupShortName: 'licensing'
    enabled: true
    emailReceivers: [
      for (email, index) in emails: {
        name: 'operator-${index + 1}'
        emailAddress: email
        useCommonAlertSchema: true
      }
    ]
  }
}

resource rules 'Microsoft.Insights/scheduledQueryRules@2026-03-01' = [
  for alert in alerts: {
    name: '${environmentName}-${alert.name}'
    location: location
    tags: tags
    kind: 'LogAlert'
    properties: {
      displayName: '${environmentName}: ${alert.title}'
      description: 'What to do: docs/operations.md, "${alert.name}".'
      severity: alert.severity
      enabled: true
      scopes: [workspaceId]
      evaluationFrequency: alert.every
      windowSize: alert.window
      // The queries name their own times where they look further back than the window.
      overrideQueryTimeRange: alert.window == 'P1D' ? 'P2D' : null
      criteria: {
        allOf: [
          {
            query: alert.query
            timeAggregation: 'Count'
            operator: 'GreaterThan'
            threshold: 0
            failingPeriods: { numberOfEvaluationPeriods: 1, minFailingPeriodsToAlert: 1 }
          }
        ]
      }
      autoMitigate: true
      // A new workspace has no tables until the first rows arrive, and the rule must not wait for them.
      skipQueryValidation: true
      actions: { actionGroups: [people.id] }
    }
  }
]
