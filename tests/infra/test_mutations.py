"""Every policy can fail: the templates, spoiled in one place, must break the policy that guards it.

Each mutation is one replacement in a copy of the templates, and the sentence that must come of it. All copies
are resolved in one run of the compiler.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from infra.check import CompilerError, bicep, copy_templates
from tests.infra.conftest import PEOPLE, Deployment, resolve, without_linter
from tests.infra.policy import violations


class Mutation(NamedTuple):
    file: str
    old: str
    new: str
    violation: str
    parameters: Mapping[str, Any] = MappingProxyType({})


ACCESS_TO = {
    "Contributor": "b24988ac-6180-42a0-ab88-20f7382dd24c",
    "Owner": "8e3af657-a8ff-443c-a75c-2fe8c4bcb635",
}
MUTATIONS = {
    "region outside the EU/EEA": Mutation(
        "main.bicep", "'austriaeast'", "'eastus'", "lies in eastus, outside", {"location": "eastus"}
    ),
    "one resource outside the EU/EEA": Mutation(
        "insights.bicep", "  location: location", "  location: 'westus'", "lies in westus, outside"
    ),
    "alerts processed anywhere": Mutation(
        "alerts.bicep",
        "location == 'swedencentral' ? 'swedencentral' : 'germanywestcentral'",
        "'global'",
        "lies in global, outside",
    ),
    "copy in a pair that does not exist": Mutation(
        "main.bicep",
        "  'francecentral'\n  'germanywestcentral'\n  'northeurope'\n  'norwayeast'\n  'swedencentral'",
        "  'italynorth'",
        "Standard_GRS, but italynorth has no pair",
        {"location": "italynorth", "redundancy": "GRS"},
    ),
    "copy that can be read": Mutation(
        "storage.bicep", "'Standard_${redundancy}'", "'Standard_RAGRS'", "a second endpoint to read from"
    ),
    "global service nobody has argued for": Mutation(
        "identity.bicep",
        "resource identity",
        "resource door 'Microsoft.Cdn/profiles@2025-06-01' = "
        "{ name: 'door', location: 'global', sku: { name: 'Standard_AzureFrontDoor' } }\nresource identity",
        "Microsoft.Cdn/profiles door lies in global, outside",
    ),
    "shared keys on": Mutation(
        "storage.bicep",
        "allowSharedKeyAccess: false",
        "allowSharedKeyAccess: true",
        "allowSharedKeyAccess must be False",
    ),
    "shared keys unsaid": Mutation(
        "storage.bicep", "allowSharedKeyAccess: false", "", "allowSharedKeyAccess must be False"
    ),
    "public blobs allowed": Mutation(
        "storage.bicep",
        "allowBlobPublicAccess: false",
        "allowBlobPublicAccess: true",
        "allowBlobPublicAccess must be False",
    ),
    "public container": Mutation(
        "host.bicep", "publicAccess: 'None'", "publicAccess: 'Blob'", "can be read by the public"
    ),
    "TLS of storage lowered": Mutation("storage.bicep", "'TLS1_2'", "'TLS1_0'", "minimumTlsVersion must be TLS1_2"),
    "TLS of the app lowered": Mutation(
        "app.bicep", "minTlsVersion: '1.2'", "minTlsVersion: '1.0'", "can be called without TLS 1.2"
    ),
    "remote debugging on": Mutation(
        "app.bicep",
        "minTlsVersion: '1.2' }",
        "minTlsVersion: '1.2', remoteDebuggingEnabled: true }",
        "open to debuggers or to scripts",
    ),
    "scripts of other sites let in": Mutation(
        "app.bicep",
        "minTlsVersion: '1.2' }",
        "minTlsVersion: '1.2', cors: { allowedOrigins: ['*'] } }",
        "open to debuggers or to scripts",
    ),
    "plain HTTP": Mutation("app.bicep", "httpsOnly: true", "httpsOnly: false", "can be called without TLS 1.2"),
    "register and host in one account": Mutation(
        "main.bicep",
        "    name: names.register\n",
        "    name: names.host\n",
        "two storage accounts, and the register in one",
    ),
    "storage open beside its network": Mutation(
        "storage.bicep",
        "isolated ? 'Disabled' : 'Enabled'",
        "'Enabled'",
        "can be reached from outside the network",
        {"isolated": True},
    ),
    "network without a way to the vault": Mutation(
        "main.bicep",
        "{ name: 'pe-vault', resourceId: vault.outputs.id, service: 'vault' }",
        "",
        "kv-.*: a private endpoint belongs",
        {"isolated": True},
    ),
    "app outside its network": Mutation(
        "app.bicep", "virtualNetworkSubnetId: subnetId", "", "it must be in the network", {"isolated": True}
    ),
    "network open to the internet": Mutation(
        "network.bicep",
        "  name: '${name}-guard'\n",
        "  name: '${name}-guard'\n  properties: { securityRules: [{ name: 'in', properties: { priority: 100, "
        "direction: 'Inbound', access: 'Allow', protocol: 'Tcp', sourceAddressPrefix: '*', sourcePortRange: '*', "
        "destinationAddressPrefix: '*', destinationPortRange: '22' } }] }\n",
        "has rules of its own",
        {"isolated": True},
    ),
    "vault with access policies": Mutation(
        "vault.bicep",
        "enableRbacAuthorization: true",
        "enableRbacAuthorization: false",
        "enableRbacAuthorization must be true",
    ),
    "vault that can be purged": Mutation(
        "vault.bicep", "enablePurgeProtection: true", "", "enablePurgeProtection must be true"
    ),
    "secret written by the template": Mutation(
        "vault.bicep",
        "resource lock",
        "resource secret 'Microsoft.KeyVault/vaults/secrets@2025-05-01' = "
        "{ parent: vault, name: 'peppers', properties: { value: 'x' } }\nresource lock",
        "a secret is written by the template",
    ),
    "secret in a setting": Mutation(
        "app.bicep",
        "'@Microsoft.KeyVault(VaultName=${vaultName};SecretName=peppers)'",
        "'{}'",
        "LICENSING_PEPPERS is a secret, and does not come from the vault",
    ),
    "setting missing": Mutation(
        "app.bicep",
        "LICENSING_TRUSTED_HOPS: string(trustedHops)",
        "",
        "setting LICENSING_TRUSTED_HOPS is missing",
    ),
    "setting misspelt": Mutation(
        "app.bicep", "LICENSING_SMALL_GROUP:", "LICENSING_SMALLGROUP:", "LICENSING_SMALLGROUP is not one that"
    ),
    "app may do anything to the register": Mutation(
        "register.bicep",
        "roles.storageTableDataContributor",
        f"'{ACCESS_TO['Contributor']}'",
        f"role {ACCESS_TO['Contributor']} is not one that the templates may hand out",
    ),
    "app owns the vault": Mutation(
        "vault.bicep",
        "roles.keyVaultSecretsUser",
        f"'{ACCESS_TO['Owner']}'",
        f"role {ACCESS_TO['Owner']} is not one",
    ),
    "auditors may write": Mutation(
        "register.bicep",
        "roles.storageTableDataReader",
        "roles.storageTableDataContributor",
        "Storage Table Data Contributor is too wide for auditors",
        PEOPLE,
    ),
    "app may write secrets": Mutation(
        "vault.bicep",
        "roles.keyVaultSecretsUser",
        "roles.keyVaultSecretsOfficer",
        "Key Vault Secrets Officer is too wide for the app",
    ),
    "role on the whole group": Mutation(
        "register.bicep",
        "  scope: account\n  name: guid(account.id, appP",
        "  name: guid(account.id, appP",
        "Storage Table Data Contributor is given on something else",
    ),
    "register without a diagnostic setting": Mutation(
        "register.bicep",
        "resource accessLog 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {",
        "resource accessLog 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = if (false) {",
        "no diagnostic setting records StorageRead",
    ),
    "reads of the register unrecorded": Mutation(
        "register.bicep",
        "{ category: 'StorageRead', enabled: true }",
        "{ category: 'StorageRead', enabled: false }",
        "no diagnostic setting records StorageRead",
    ),
    "vault without a diagnostic setting": Mutation(
        "vault.bicep",
        "resource accessLog 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {",
        "resource accessLog 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = if (false) {",
        "no diagnostic setting records who reads secrets",
    ),
    "logs kept longer than sessions": Mutation(
        "logs.bicep", "retentionInDays: days", "retentionInDays: 730", "keeps logs for longer"
    ),
    "address masking off": Mutation(
        "insights.bicep", "DisableIpMasking: false", "DisableIpMasking: true", "address masking is off"
    ),
    "telemetry from anybody": Mutation(
        "insights.bicep", "DisableLocalAuth: true", "DisableLocalAuth: false", "takes telemetry from anybody"
    ),
    "concurrency unset": Mutation(
        "app.bicep",
        "triggers: { http: { perInstanceConcurrency: 100 } }",
        "",
        "serves one request at a time",
    ),
    "publishing password on": Mutation(
        "app.bicep", "allow: false", "allow: true", "a publishing password opens the app"
    ),
    "untagged": Mutation("logs.bicep", "  tags: tags", "", "log-.* has no tag azd-env-name"),
}


def spoil(templates: Path, folder: Path, mutation: Mutation) -> Path:
    """Put main.bicep and the spoiled file into `folder`; all else they take from `templates` beside it."""
    folder.mkdir()
    for name in {"main.bicep", mutation.file}:
        text = (templates / name).read_text(encoding="utf-8")
        if name == mutation.file:
            assert mutation.old in text, f"{mutation.file} no longer says {mutation.old}"
            text = text.replace(mutation.old, mutation.new)
        text = re.sub(
            r"'([\w/-]+\.(?:bicep|kql))'",
            lambda file: file[0] if file[1] == mutation.file else f"'../{templates.name}/{file[1]}'",
            text,
        )
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def spoiled(compiler: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The violations of each mutation."""
    folder = tmp_path_factory.mktemp("mutations")
    templates = without_linter(folder)
    deployments: list[tuple[Path, Deployment]] = [
        (
            spoil(templates, folder / f"m{number}", mutation),
            {"location": "northeurope", **mutation.parameters},
        )
        for number, mutation in enumerate(MUTATIONS.values())
    ]
    found = resolve(compiler, folder, deployments)
    return {name: violations(resources) for name, resources in zip(MUTATIONS, found, strict=True)}


@pytest.mark.parametrize("name", MUTATIONS)
def test_spoiled_template_breaks_the_policy_that_guards_it(spoiled: dict[str, list[str]], name: str) -> None:
    assert any(re.search(MUTATIONS[name].violation, violation) for violation in spoiled[name]), spoiled[name]


def test_linter_refuses_templates_that_leak_or_stray(compiler: str, tmp_path: Path) -> None:
    """`make check` runs the same linter with the same settings."""
    additions = {
        "outputs-should-not-contain-secrets": "output key string = account.listKeys().keys[0].value",
        "secure-parameter-default": "@secure()\nparam pepper string = 'hush'",
        "secure-secrets-in-params": "param adminPassword string",
        "no-hardcoded-location": "resource second 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' = "
        "{ name: 'second', location: 'eastus' }",
        "no-unused-params": "param idle string",
    }
    copy = copy_templates(tmp_path)
    with (copy / "storage.bicep").open("a", encoding="utf-8") as file:
        file.write("\n".join(additions.values()))
    with pytest.raises(CompilerError) as failure:
        bicep(compiler, "lint", copy / "storage.bicep")
    assert [rule for rule in additions if f"Error {rule}" not in str(failure.value)] == []
