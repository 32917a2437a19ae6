"""Every deployment that the parameters allow keeps every policy, in each region, with and without options."""

import json
from pathlib import Path

import pytest

from infra.check import INFRA, SNAPSHOT, CompilerError, bicep
from tests.infra.conftest import PEOPLE, REQUIRED, Deployment, resolve, without_linter
from tests.infra.policy import REGIONS, Resource, of_type, register, violations

LOCK, VAULT = "Microsoft.Authorization/locks", "Microsoft.KeyVault/vaults"

NOTHING: Deployment = {
    "redundancy": "LRS",
    "isolated": False,
    "alwaysReady": 0,
    "monthlyBudget": 0,
    "keepRegister": False,
}
EVERYTHING: Deployment = {
    "isolated": True,
    "alwaysReady": 2,
    "monthlyBudget": 500,
    "keepRegister": True,
    **PEOPLE,
}


def allowed(region: str) -> dict[str, Deployment]:
    """The deployments to judge in a region, by name: no option, all of them, and what hangs on the region."""
    options = {
        "nothing": NOTHING,
        "everything": {**EVERYTHING, "redundancy": "GZRS" if REGIONS[region] else "ZRS"},
    }
    if REGIONS[region]:
        options["a copy in the paired region"] = {**NOTHING, "redundancy": "GRS"}
    if region == "northeurope":
        options |= {f"only {option}": {**NOTHING, option: value} for option, value in EVERYTHING.items()}
    return {f"{region}, {name}": {**option, "location": region} for name, option in options.items()}


CASES = {name: case for region in REGIONS for name, case in allowed(region).items()}


@pytest.fixture(scope="module")
def deployed(compiler: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Resource]]:
    folder = tmp_path_factory.mktemp("regions")
    templates = without_linter(folder)
    resources = resolve(compiler, folder, [(templates, case) for case in CASES.values()])
    return dict(zip(CASES, resources, strict=True))


def test_template_offers_exactly_the_regions_that_the_policy_allows() -> None:
    text = (INFRA / "main.bicep").read_text(encoding="utf-8")
    offered = text.split("param location")[0].rsplit("@allowed([", 1)[1].split("])")[0]
    assert sorted(offered.replace("'", "").split()) == sorted(REGIONS)


@pytest.mark.parametrize("region", REGIONS)
def test_every_deployment_in_an_allowed_region_keeps_every_policy(
    deployed: dict[str, list[Resource]], region: str
) -> None:
    broken = {name: found for name in allowed(region) if (found := violations(deployed[name]))}
    assert broken == {}


def test_options_do_what_they_say(deployed: dict[str, list[Resource]]) -> None:
    bare, full = deployed["northeurope, nothing"], deployed["northeurope, everything"]
    for kind in (
        "Microsoft.Network/privateEndpoints",
        "Microsoft.Authorization/locks",
        "Microsoft.Consumption/budgets",
    ):
        assert not of_type(bare, kind)
        assert of_type(full, kind)
    assert [account["sku"]["name"] for account in register(bare)] == ["Standard_LRS"]
    assert [account["sku"]["name"] for account in register(full)] == ["Standard_GZRS"]
    (site,) = of_type(full, "Microsoft.Web/sites")
    scale = site["properties"]["functionAppConfig"]["scaleAndConcurrency"]
    assert scale["alwaysReady"] == [{"name": "http", "instanceCount": 2}]


def test_lock_keeps_both_the_register_and_the_keys(deployed: dict[str, list[Resource]]) -> None:
    kept = deployed["northeurope, only keepRegister"]
    locked = {lock["id"].split("/providers/Microsoft.Authorization/")[0] for lock in of_type(kept, LOCK)}
    assert locked == {resource["id"] for resource in [*register(kept), *of_type(kept, VAULT)]}


def test_second_run_changes_nothing(deployed: dict[str, list[Resource]]) -> None:
    """What a deployment makes hangs on its parameters alone: no clock, no random name."""
    for function in ("utcNow(", "newGuid("):
        for template in INFRA.glob("*.bicep"):
            assert function not in template.read_text(encoding="utf-8"), template.name
    names = [resource["name"] for resource in deployed["northeurope, everything"]]
    assert not [name for name in names if "deployment()" in name]


def test_region_outside_the_eea_a_readable_copy_and_a_private_key_are_refused(compiler: str, tmp_path: Path) -> None:
    key = REQUIRED["issuerKeys"]["keys"][0]
    refused: list[tuple[Deployment, str]] = [
        ({"location": "eastus"}, "of type \"'eastus'\""),
        ({"location": "uksouth"}, "of type \"'uksouth'\""),
        ({"location": "switzerlandnorth"}, "of type \"'switzerlandnorth'\""),
        ({"location": "northeurope", "redundancy": "RAGRS"}, "of type \"'RAGRS'\""),
        (
            {"location": "northeurope", "issuerKeys": {"keys": [{**key, "d": "A" * 43}]}},
            'property "d" is not allowed',
        ),
    ]
    templates = without_linter(tmp_path)
    with pytest.raises(CompilerError) as failure:
        resolve(compiler, tmp_path, [(templates, parameters) for parameters, _ in refused])
    assert [reason for _, reason in refused if reason not in str(failure.value)] == []


def test_copy_in_another_region_is_refused_where_there_is_no_pair(compiler: str, tmp_path: Path) -> None:
    parameters = {"location": "italynorth", "redundancy": "GRS"}
    with pytest.raises(CompilerError, match="italynorth has no paired region"):
        resolve(compiler, tmp_path, [(without_linter(tmp_path), parameters)])


def test_every_parameter_can_be_set_from_the_environment(compiler: str) -> None:
    """azd passes what main.parameters.json names; a parameter missing there could not be set by anybody."""
    template = json.loads(bicep(compiler, "build", INFRA / "main.bicep", "--stdout"))
    file = json.loads((INFRA / "main.parameters.json").read_text(encoding="utf-8"))
    assert sorted(file["parameters"]) == sorted(template["parameters"])
    assert all(parameter["metadata"]["description"] for parameter in template["parameters"].values())


def test_snapshot_in_git_keeps_every_policy() -> None:
    snapshot = json.loads(SNAPSHOT.read_text(encoding="utf-8"))
    assert violations(snapshot["predictedResources"]) == []
