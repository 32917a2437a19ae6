"""The Bicep compiler, and the resources of many deployments by one run of it.

A wrapper template takes main.bicep once for each deployment. Without a compiler the tests are skipped: nothing here is
tested on anything else.
"""

import re
from pathlib import Path
from typing import Any

import pytest

from infra.check import copy_templates, find_compiler, snapshot
from tests.infra.policy import AUDITOR_ID, OPERATOR_ID, Resource

Deployment = dict[str, Any]

PEOPLE: Deployment = {
    "operators": [{"id": OPERATOR_ID, "type": "Group"}],
    "auditors": [{"id": AUDITOR_ID, "type": "User"}],
}
# The parameters that have no default, made up.
REQUIRED: Deployment = {
    "issuerKeys": {"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "issuer-1", "x": "A" * 43}]},
    "policyVersion": "1",
    "policyUrl": "https://vendor.example/privacy",
    "alertEmails": ["operations@vendor.example"],
    "budgetStart": "2026-11-01",
}


def without_linter(folder: Path) -> Path:
    """A copy of the templates in `folder`/infra, with the linter off: policies are what is tested on it."""
    (folder / "bicepconfig.json").write_text('{"analyzers": {"core": {"enabled": false}}}', encoding="utf-8")
    templates = copy_templates(folder)
    (templates / "bicepconfig.json").unlink()
    return templates


def resolve(compiler: str, folder: Path, deployments: list[tuple[Path, Deployment]]) -> list[list[Resource]]:
    """The resources of each deployment, in the order given.

    A deployment is a folder of templates, and the parameters of its main.bicep that differ from REQUIRED.
    `folder` takes the wrapper. Raises CompilerError when anything does not compile or resolve.
    """
    wrapper = ["targetScope = 'subscription'"]
    for number, (templates, chosen) in enumerate(deployments):
        parameters = literal({**REQUIRED, **chosen, "environmentName": f"e{number}"})
        main = (templates / "main.bicep").relative_to(folder).as_posix()
        wrapper.append(f"module e{number} '{main}' = {{ name: 'e{number}', params: {parameters} }}")
    (folder / "all.bicep").write_text("\n".join(wrapper), encoding="utf-8")
    (folder / "all.bicepparam").write_text("using 'all.bicep'", encoding="utf-8")
    resolved = snapshot(compiler, folder / "all.bicepparam")

    found: list[list[Resource]] = [[] for _ in deployments]
    for resource in resolved["predictedResources"]:
        # Every id names its resource group, or in case of the budget its environment.
        owner = re.search(r"\b(?:rg|licensing)-e(\d+)\b", resource["id"])
        assert owner, f"{resource['id']} belongs to no deployment"
        found[int(owner[1])].append(resource)
    return found


def literal(value: object) -> str:
    """`value`, made of the types that JSON knows, as Bicep writes it."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key}: {literal(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(literal, value)) + "]"
    return f"'{value}'" if isinstance(value, str) else str(value).lower()


@pytest.fixture(scope="session")
def compiler() -> str:
    found = find_compiler()
    if found is None:
        pytest.skip("THE TEMPLATES WERE NOT TESTED: no Bicep compiler (set BICEP, or run `az bicep install`)")
    return found
