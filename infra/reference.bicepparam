// Everything switched on, for the snapshot that is kept beside this file: `git diff` on it shows in a review what a
// change of the templates does to the cloud. Nobody deploys from here; the ids and the key are made up.
using 'main.bicep'

param environmentName = 'reference'
param location = 'northeurope'
param redundancy = 'GZRS'
param isolated = true
param issuerKeys = {
  keys: [{ kty: 'OKP', crv: 'Ed25519', kid: 'issuer-1', x: '11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo' }]
}
param policyVersion = '1'
param policyUrl = 'https://vendor.example/privacy'
param operators = [{ id: '00000000-0000-0000-0000-00000000000a', type: 'Group' }]
param auditors = [{ id: '00000000-0000-0000-0000-00000000000b', type: 'User' }]
param alertEmails = ['operations@vendor.example']
param budgetStart = '2026-11-01'
