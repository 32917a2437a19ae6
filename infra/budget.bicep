// A budget over both resource groups. It warns; it never switches anything off.

targetScope = 'subscription'

@description('Name of the budget.')
param name string

@description('Resource groups that it counts.')
param resourceGroupNames string[]

@description('Amount a month, in the currency that the subscription is billed in.')
@minValue(0)
param amount int

@description('First day of the month that it starts in. Azure does not let it change later.')
param start string

@description('Mail addresses that warnings go to.')
param emails string[]

resource budget 'Microsoft.Consumption/budgets@2026-06-01' = {
  name: name
  properties: {
    category: 'Cost'
    amount: amount
    timeGrain: 'Monthly'
    timePeriod: { startDate: start }
    filter: { dimensions: { name: 'ResourceGroupName', operator: 'In', values: resourceGroupNames } }
    notifications: {
      foreseen: {
        enabled: true
        thresholdType: 'Forecasted'
        operator: 'GreaterThan'
        threshold: 100
        contactEmails: emails
      }
      mostSpent: {
        enabled: true
        thresholdType: 'Actual'
        operator: 'GreaterThan'
        threshold: 80
        contactEmails: emails
      }
    }
  }
}
