"""What every deployment must be, judged by the resources that it would make.

Each rule is a function from the resources of one deployment to its violations, one sentence each.

- Everything lies inside the EU/EEA, copies included; services without a region are listed, with the reason.
- Storage takes no keys, no public blobs, no old TLS; with a network of ours, it is reached from there alone.
- The vault uses roles, keeps what is deleted, and holds every secret that a setting needs.
- Each role goes to those it is meant for, on the kind of resource it is meant for; there is no other role.
- Every access to the register and the vault is recorded, for less than the year that sessions are kept.
- Telemetry hides addresses and takes no anonymous rows.
- An instance serves requests together, or group commit has nothing to batch.

It judges resolved resources, never the text of a template. What Azure itself would refuse is left to Azure.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

from licensing import settings

Resource = dict[str, Any]
Rule = Callable[[list[Resource]], Iterator[str]]

# Each region, and the one that geo-redundant storage copies to; None where Azure pairs it with no other.
REGIONS: dict[str, str | None] = {
    "austriaeast": None,
    "belgiumcentral": None,
    "denmarkeast": None,
    "francecentral": "francesouth",
    "germanywestcentral": "germanynorth",
    "italynorth": None,
    "northeurope": "westeurope",
    "norwayeast": "norwaywest",
    "polandcentral": None,
    "spaincentral": None,
    "swedencentral": "swedensouth",
    "westeurope": "northeurope",
}
EEA = {*REGIONS, "francesouth", "germanynorth", "norwaywest", "swedensouth"}

# Types that have no region of their own, and why none of them holds data of users outside the EU/EEA.
WITHOUT_REGION = {
    "Microsoft.Authorization/locks": "a flag on a resource",
    "Microsoft.Authorization/roleAssignments": "object ids of the vendor's own staff, in the vendor's tenant",
    "Microsoft.Consumption/budgets": "an amount, and mail addresses of the vendor's own staff",
    "Microsoft.Insights/diagnosticSettings": "names the workspace, whose region is judged",
    "Microsoft.Network/privateDnsZones": "global; names and private addresses of our own resources",
    "Microsoft.Network/privateDnsZones/virtualNetworkLinks": "global; the name of our own network",
}

APP, OPERATOR, AUDITOR = "the app", "operators", "auditors"
ACCOUNT, VAULT = "Microsoft.Storage/storageAccounts", "Microsoft.KeyVault/vaults"
COMPONENT, WORKSPACE = "Microsoft.Insights/components", "Microsoft.OperationalInsights/workspaces"
SECURITY_GROUP = "Microsoft.Network/networkSecurityGroups"

# Role → the kind of resource that it may be given on. Names are Azure's own.
ROLES = {
    "b7e6dc6d-f1e8-4753-8033-0f276bb0955b": ("Storage Blob Data Owner", ACCOUNT),
    "0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3": ("Storage Table Data Contributor", ACCOUNT),
    "76199698-9eea-4c19-bc75-cec21354c6b6": ("Storage Table Data Reader", ACCOUNT),
    "4633458b-17de-408a-b874-0445c86b69e6": ("Key Vault Secrets User", VAULT),
    "b86a8fe4-44ce-4948-aee5-eccb2c155cd7": ("Key Vault Secrets Officer", VAULT),
    "3913510d-42f4-4e42-8a64-420c390055eb": ("Monitoring Metrics Publisher", COMPONENT),
    "43d0d8ad-25c7-4714-9337-8ba259a9fe05": ("Monitoring Reader", COMPONENT),
    "73c42c96-874c-492b-b04d-ab87d138a893": ("Log Analytics Reader", WORKSPACE),
    "b279062a-9be3-42a0-92ae-8b3cf002ec4d": ("Workbook Reader", "Microsoft.Insights/workbooks"),
}
# Who may hold which. People differ by their object ids, which the tests choose.
HOLDERS = {
    APP: {
        "Storage Blob Data Owner",
        "Storage Table Data Contributor",
        "Key Vault Secrets User",
        "Monitoring Metrics Publisher",
    },
    OPERATOR: {
        "Storage Table Data Contributor",
        "Key Vault Secrets Officer",
        "Monitoring Reader",
        "Log Analytics Reader",
        "Workbook Reader",
    },
    AUDITOR: {"Storage Table Data Reader", "Log Analytics Reader"},
}
OPERATOR_ID = "00000000-0000-0000-0000-00000000000a"
AUDITOR_ID = "00000000-0000-0000-0000-00000000000b"

# The exact settings of the app: the service's (without those of a local store and of Azure's region), and the host's.
SECRET_SETTINGS = {"LICENSING_LEASE_KEYS", "LICENSING_PEPPERS"}
SETTINGS = {setting.name for setting in settings.SETTINGS} - {"LICENSING_STORAGE", "REGION_NAME"} | {
    "APPLICATIONINSIGHTS_AUTHENTICATION_STRING",
    "APPLICATIONINSIGHTS_CONNECTION_STRING",
    "AzureWebJobsStorage__blobServiceUri",
    "AzureWebJobsStorage__clientId",
    "AzureWebJobsStorage__credential",
}


def violations(resources: list[Resource]) -> list[str]:
    """Every violation in the resources of one deployment, as `bicep snapshot` predicts them."""
    return [violation for rule in RULES for violation in rule(resources)]


def of_type(resources: list[Resource], kind: str) -> list[Resource]:
    return [resource for resource in resources if resource["type"] == kind]


def register(resources: list[Resource]) -> Iterator[Resource]:
    """The storage account that holds the register: the one with tables."""
    tables = of_type(resources, f"{ACCOUNT}/tableServices/tables")
    holders = {table["name"].split("/")[0] for table in tables}
    return (account for account in of_type(resources, ACCOUNT) if account["name"] in holders)


def inside_the_eea(resources: list[Resource]) -> Iterator[str]:
    located = {resource["type"] for resource in resources if "location" in resource}
    for resource in resources:
        kind, region = resource["type"], resource.get("location")
        if kind in WITHOUT_REGION:
            if region not in (None, "global"):
                yield f"{kind} lies in {region}, but is listed as having no region"
        elif region is None:
            if kind.rsplit("/", 1)[0] not in located and not is_child(kind, located):
                yield f"{kind} has no region, and nobody has said why that is harmless"
        elif region not in EEA:
            yield f"{kind} {resource['name']} lies in {region}, outside the EU/EEA"


def is_child(kind: str, located: set[str]) -> bool:
    """Whether a resource of this type lives inside one that has a region."""
    return any(kind.startswith(f"{parent}/") for parent in located)


def copies_inside_the_eea(resources: list[Resource]) -> Iterator[str]:
    for account in of_type(resources, ACCOUNT):
        sku, region = account["sku"]["name"], account["location"]
        if "G" in sku.removeprefix("Standard_") and REGIONS.get(region) not in EEA:
            yield f"{account['name']} is {sku}, but {region} has no pair inside the EU/EEA"
        if "RA" in sku:
            yield f"{account['name']} is {sku}: a second endpoint to read from, which nothing guards"


def storage_is_shut(resources: list[Resource]) -> Iterator[str]:
    required = {
        "allowBlobPublicAccess": False,
        "allowCrossTenantReplication": False,
        "allowSharedKeyAccess": False,
        "minimumTlsVersion": "TLS1_2",
        "supportsHttpsTrafficOnly": True,
    }
    accounts = of_type(resources, ACCOUNT)
    if len(accounts) != 2 or len(list(register(resources))) != 1:
        yield "there must be two storage accounts, and the register in one of them alone"
    for account in accounts:
        for name, value in required.items():
            if account["properties"].get(name) != value:
                yield f"{account['name']}: {name} must be {value}"
    for container in of_type(resources, f"{ACCOUNT}/blobServices/containers"):
        if container["properties"].get("publicAccess") != "None":
            yield f"{container['name']} can be read by the public"


def vault_is_shut(resources: list[Resource]) -> Iterator[str]:
    for vault in of_type(resources, VAULT):
        for name in ("enableRbacAuthorization", "enableSoftDelete", "enablePurgeProtection"):
            if vault["properties"].get(name) is not True:
                yield f"{vault['name']}: {name} must be true"
    if of_type(resources, f"{VAULT}/secrets"):
        yield "a secret is written by the template, so its value is in the deployment's history"


def network_is_the_only_way_in(resources: list[Resource]) -> Iterator[str]:
    isolated = bool(of_type(resources, "Microsoft.Network/virtualNetworks"))
    endpoints = {
        connection["properties"]["privateLinkServiceId"]
        for endpoint in of_type(resources, "Microsoft.Network/privateEndpoints")
        for connection in endpoint["properties"]["privateLinkServiceConnections"]
    }
    for target in of_type(resources, ACCOUNT) + of_type(resources, VAULT):
        shut = target["properties"]["publicNetworkAccess"] == "Disabled" and target["properties"]["networkAcls"] == {
            "defaultAction": "Deny",
            "bypass": "None",
        }
        if isolated and not shut:
            yield f"{target['name']} can be reached from outside the network"
        if isolated != (target["id"] in endpoints):
            yield f"{target['name']}: a private endpoint belongs to a private network, one to each"
    for site in of_type(resources, "Microsoft.Web/sites"):
        if isolated != bool(site["properties"].get("virtualNetworkSubnetId")):
            yield f"{site['name']} cannot reach storage and vault: it must be in the network if there is one"
    for group in of_type(resources, SECURITY_GROUP):
        if group.get("properties", {}).get("securityRules") or of_type(resources, f"{SECURITY_GROUP}/securityRules"):
            yield f"{group['name']} has rules of its own: the default ones let nothing in from the internet"


def roles_are_narrow(resources: list[Resource]) -> Iterator[str]:
    for assignment in of_type(resources, "Microsoft.Authorization/roleAssignments"):
        role_id = assignment["properties"]["roleDefinitionId"].rsplit("/", 1)[-1]
        if role_id not in ROLES:
            yield f"role {role_id} is not one that the templates may hand out"
            continue
        role, kind = ROLES[role_id]
        if not re.fullmatch(rf".*/providers/{re.escape(kind)}/[^/]+", scope_of(assignment)):
            yield f"{role} is given on something else than {kind}"
        holder = holder_of(assignment)
        if role not in HOLDERS[holder]:
            yield f"{role} is too wide for {holder}"


def scope_of(assignment: Resource) -> str:
    """The id of the resource that the role is given on.

    The id of an assignment to the app is an expression, for its principal is known to Azure alone; the
    resource is its first argument. An assignment on a whole resource group has none, and gives no scope.
    """
    expression = re.match(r"\[extensionResourceId\('([^']+)'", assignment["id"])
    if expression:
        return expression[1]
    return str(assignment["id"]).rpartition("/providers/Microsoft.Authorization/roleAssignments/")[0]


def holder_of(assignment: Resource) -> str:
    principal = assignment["properties"]["principalId"]
    return {OPERATOR_ID: OPERATOR, AUDITOR_ID: AUDITOR}.get(principal, APP)


def access_is_recorded(resources: list[Resource]) -> Iterator[str]:
    settings = of_type(resources, "Microsoft.Insights/diagnosticSettings")

    def recorded(target: str) -> set[str]:
        return {
            log.get("category") or log["categoryGroup"]
            for setting in settings
            if setting["id"].startswith(f"{target}/providers/") and setting["properties"].get("workspaceId")
            for log in setting["properties"]["logs"]
            if log["enabled"]
        }

    for account in register(resources):
        for missing in {"StorageRead", "StorageWrite", "StorageDelete"} - recorded(
            f"{account['id']}/tableServices/default"
        ):
            yield f"{account['name']}: no diagnostic setting records {missing}"
    for vault in of_type(resources, VAULT):
        if not recorded(vault["id"]) & {"audit", "allLogs", "AuditEvent"}:
            yield f"{vault['name']}: no diagnostic setting records who reads secrets"
    for workspace in of_type(resources, WORKSPACE):
        if not 30 <= workspace["properties"]["retentionInDays"] <= 365:
            yield f"{workspace['name']} keeps logs for longer than sessions may be kept"


def telemetry_is_blind(resources: list[Resource]) -> Iterator[str]:
    for component in of_type(resources, COMPONENT):
        if component["properties"].get("DisableIpMasking") is not False:
            yield f"{component['name']}: address masking is off, so clients' addresses are stored"
        if component["properties"].get("DisableLocalAuth") is not True:
            yield f"{component['name']} takes telemetry from anybody who knows its key"
        if not component["properties"].get("WorkspaceResourceId"):
            yield f"{component['name']} keeps its rows outside our workspace"


def app_is_as_designed(resources: list[Resource]) -> Iterator[str]:
    for site in of_type(resources, "Microsoft.Web/sites"):
        properties = site["properties"]
        scale = properties["functionAppConfig"]["scaleAndConcurrency"]
        if scale.get("triggers", {}).get("http", {}).get("perInstanceConcurrency", 1) < 2:
            yield f"{site['name']} serves one request at a time: perInstanceConcurrency is not set"
        if properties["functionAppConfig"]["runtime"] != {"name": "python", "version": "3.13"}:
            yield f"{site['name']} does not run on Python 3.13"
        if properties.get("httpsOnly") is not True or properties["siteConfig"].get("minTlsVersion") != "1.2":
            yield f"{site['name']} can be called without TLS 1.2"
        if properties["siteConfig"].get("remoteDebuggingEnabled") or properties["siteConfig"].get("cors"):
            yield f"{site['name']} is open to debuggers or to scripts of other sites"
        if site["identity"]["type"] != "UserAssigned":
            yield f"{site['name']} must run as the user-assigned identity that the roles are given to"
        identities = list(site["identity"]["userAssignedIdentities"])
        if identities != [properties.get("keyVaultReferenceIdentity")]:
            yield f"{site['name']} does not read the vault as that identity"
    policies = of_type(resources, "Microsoft.Web/sites/basicPublishingCredentialsPolicies")
    if {policy["name"].split("/")[-1] for policy in policies if policy["properties"]["allow"] is False} != {
        "scm",
        "ftp",
    }:
        yield "a publishing password opens the app"


def settings_are_complete(resources: list[Resource]) -> Iterator[str]:
    (settings,) = [r["properties"] for r in of_type(resources, "Microsoft.Web/sites/config")]
    for name in sorted(SETTINGS ^ settings.keys()):
        yield f"setting {name} is {'missing' if name in SETTINGS else 'not one that the service knows'}"
    for name in sorted(SECRET_SETTINGS & settings.keys()):
        if not settings[name].startswith("@Microsoft.KeyVault("):
            yield f"setting {name} is a secret, and does not come from the vault"
    for name, value in settings.items():
        if re.search(r"AccountKey|SharedAccessSignature|\blistKeys\(", value):
            yield f"setting {name} carries a storage key"


def everything_is_tagged(resources: list[Resource]) -> Iterator[str]:
    for resource in resources:
        if "location" in resource and "azd-env-name" not in resource.get("tags", {}):
            yield f"{resource['name']} has no tag azd-env-name"


RULES: tuple[Rule, ...] = (
    inside_the_eea,
    copies_inside_the_eea,
    storage_is_shut,
    vault_is_shut,
    network_is_the_only_way_in,
    roles_are_narrow,
    access_is_recorded,
    telemetry_is_blind,
    app_is_as_designed,
    settings_are_complete,
    everything_is_tagged,
)
