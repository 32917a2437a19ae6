// Types and role ids that several modules share.

@description('A person or group of the vendor, by the object id in Microsoft Entra ID.')
@export()
type principal = {
  @description('Object id, a GUID.')
  @minLength(36)
  @maxLength(36)
  id: string

  type: 'User' | 'Group'
}

@description('The public half of an Ed25519 key (RFC 8037). Sealed: a private key, which has a `d`, is refused before anything is deployed.')
@sealed()
type publicKey = {
  kty: 'OKP'
  crv: 'Ed25519'

  @minLength(1)
  kid: string

  @description('The key itself: 32 bytes, base64url.')
  @minLength(43)
  @maxLength(43)
  x: string

  use: 'sig'?
  alg: 'EdDSA'?
}

@description('A JWKS (RFC 7517) of public keys only.')
@export()
@sealed()
type publicKeySet = {
  @minLength(1)
  keys: publicKey[]
}

@description('How many copies of the register Azure keeps, and where: in one building, in three zones of the region, and the same with a copy in the paired region.')
@export()
type redundancyKind = 'LRS' | 'ZRS' | 'GRS' | 'GZRS'

@description('Built-in roles that the templates may hand out; nothing wider.')
@export()
var roles = {
  storageBlobDataOwner: 'b7e6dc6d-f1e8-4753-8033-0f276bb0955b'
  storageTableDataContributor: '0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3'
  storageTableDataReader: '76199698-9eea-4c19-bc75-cec21354c6b6'
  keyVaultSecretsUser: '4633458b-17de-408a-b874-0445c86b69e6'
  keyVaultSecretsOfficer: 'b86a8fe4-44ce-4948-aee5-eccb2c155cd7'
  monitoringMetricsPublisher: '3913510d-42f4-4e42-8a64-420c390055eb'
  monitoringReader: '43d0d8ad-25c7-4714-9337-8ba259a9fe05'
  logAnalyticsReader: '73c42c96-874c-492b-b04d-ab87d138a893'
  workbookReader: 'b279062a-9be3-42a0-92ae-8b3cf002ec4d'
}
