"""`licensing keys`, from an operator's side: what a change leaves behind, and what is refused."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from licensing.cli.home import Home
from licensing.settings import Settings
from tests.cli.conftest import Licensing, Said, Vault

KINDS = ("pepper", "lease", "issuer")


@pytest.fixture
def kept(made: Path, azurite: str, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home, and a store for the audit."""
    monkeypatch.setenv("LICENSING_STORAGE", azurite)
    return Home(made)


def shown(licensing: Licensing, *options: str) -> list[dict[str, Any]]:
    """What `keys show` says."""
    said = licensing("keys", "show", "--json", *options)
    assert said.code == 0, said.err
    return [json.loads(line) for line in said.out.splitlines()]


def ids(licensing: Licensing, kind: str, *options: str) -> list[str]:
    """The ids of a kind of key, the current one first."""
    lines = [line for line in shown(licensing, *options) if line["kind"] == kind]
    assert [line["current"] for line in lines] == [place == 0 for place in range(len(lines))]
    return [line["id"] for line in lines]


def rotated(licensing: Licensing, kind: str, *options: str) -> str:
    """Rotate; the new key's id."""
    said = licensing("keys", "rotate", kind, *options)
    assert said.code == 0, said.err
    return said.out.strip()


def audited(licensing: Licensing, subject: str) -> list[tuple[str, str]]:
    """What the audit tells of a key: what was done and how it ended."""
    entries = [json.loads(line) for line in licensing("audit", "--json").out.splitlines()]
    return [(entry["what"], entry["outcome"]) for entry in entries if subject in entry["subject"]]


def issued(licensing: Licensing, *options: str) -> Said:
    """Issue a license."""
    least = ("--organization", "acme", "--organization-name", "Acme", "--product", "Water", "--until", "2099-12-31")
    said = licensing("license", "issue", *least, *options)
    assert said.code == 0, said.err
    return said


def renewed(licensing: Licensing, license_id: str) -> None:
    """Renew a license so that its older files do not count any more."""
    said = licensing("license", "renew", license_id, "--until", "2099-12-31", "--revoke-older", "--yes")
    assert said.code == 0, said.err


def secrets_of(home: Home) -> list[str]:
    """Every secret of a home."""
    settings = json.loads(home.setting("LICENSING_LEASE_KEYS"))["keys"]
    private = [key["d"] for key in (*settings, *home.issuer_jwks())]
    return [*private, *json.loads(home.setting("LICENSING_PEPPERS")).values()]


# Rotate.


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_key_is_current_and_the_old_ones_stay(kept: Home, licensing: Licensing, kind: str) -> None:
    before = ids(licensing, kind)
    new = rotated(licensing, kind)
    assert ids(licensing, kind) == [new, *before]
    newer = rotated(licensing, kind)
    assert ids(licensing, kind) == [newer, new, *before]
    assert Settings.load({"LICENSING_HOME": str(kept.folder)}).region == ""  # which the service can start with
    assert audited(licensing, new) == [(f"keys rotate {kind}", "done")]


def test_new_license_files_name_the_new_lease_key_and_the_old_one(kept: Home, licensing: Licensing) -> None:
    old = ids(licensing, "lease")
    new = rotated(licensing, "lease")
    assert [key["kid"] for key in kept.lease_keys()["keys"]] == [new, *old]
    assert all("d" not in key for key in kept.lease_keys()["keys"])


def test_a_rotated_issuer_key_signs_and_the_service_trusts_both(kept: Home, licensing: Licensing) -> None:
    new = rotated(licensing, "issuer")
    assert kept.issuer_keys().kid == new
    assert list(Settings.load({"LICENSING_HOME": str(kept.folder)}).issuer_keys.keys) == ids(licensing, "issuer")


def test_an_issuer_key_can_be_known_before_it_signs(kept: Home, licensing: Licensing) -> None:
    [old] = ids(licensing, "issuer")
    new = rotated(licensing, "issuer", "--later")
    assert kept.issuer_keys().kid == old
    assert [key["kid"] for key in json.loads(licensing("keys", "show", "--public").out)["keys"]] == [old, new]
    assert rotated(licensing, "issuer", "--to", new) == new
    assert ids(licensing, "issuer") == [new, old]


def test_no_key_is_made_where_an_unknown_one_is_to_be_current(kept: Home, licensing: Licensing) -> None:
    before = ids(licensing, "pepper")
    assert licensing("keys", "rotate", "pepper", "--to", "nobody").code == 1
    assert licensing("keys", "rotate", "pepper", "--to", before[0], "--later").code == 2
    assert ids(licensing, "pepper") == before


def test_no_secret_is_ever_shown(kept: Home, licensing: Licensing) -> None:
    said = [licensing("keys", "rotate", kind) for kind in KINDS]
    said += [licensing("keys", "show"), licensing("keys", "show", "--json"), licensing("keys", "show", "--public")]
    text = "".join(each.out + each.err for each in said)
    assert [secret for secret in secrets_of(kept) if secret in text] == []


# Drop.


@pytest.mark.parametrize("kind", KINDS)
def test_the_only_key_and_the_current_one_stay(kept: Home, licensing: Licensing, kind: str) -> None:
    [old] = ids(licensing, kind)
    said = licensing("keys", "drop", kind, old, "--force")
    assert (said.code, "only" in said.err) == (1, True)
    new = rotated(licensing, kind)
    said = licensing("keys", "drop", kind, new, "--force")
    assert (said.code, "current" in said.err) == (1, True)
    assert licensing("keys", "drop", kind, "nobody").code == 1
    assert ids(licensing, kind) == [new, old]


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_on_which_nothing_rests_is_dropped(kept: Home, licensing: Licensing, kind: str) -> None:
    [old] = ids(licensing, kind)
    new = rotated(licensing, kind)
    said = licensing("keys", "drop", kind, old)
    assert said.code == 0, said.err
    assert ids(licensing, kind) == [new]
    assert [key["kid"] for key in kept.lease_keys()["keys"]] == ids(licensing, "lease")
    assert audited(licensing, old) == [(f"keys drop {kind}", "done")]


def test_an_issuer_key_stays_while_a_license_file_needs_it(kept: Home, licensing: Licensing) -> None:
    issued(licensing, "--id", "acme-1")
    [old] = ids(licensing, "issuer")
    new = rotated(licensing, "issuer")
    said = licensing("keys", "drop", "issuer", old)
    assert said.code == 1
    assert re.search("acme-1, serial [0-9]+, valid until 2099-12-31\n", said.err)
    issued(licensing, "--id", "acme-1", "--serial", "9999999999")
    said = licensing("keys", "drop", "issuer", old)
    assert said.code == 1, "a computer may have the older file"
    assert said.err.count("acme-1, serial") == 1
    renewed(licensing, "acme-1")
    assert licensing("keys", "drop", "issuer", old).code == 0
    assert ids(licensing, "issuer") == [new]


def test_a_leaked_issuer_key_can_be_dropped_all_the_same_and_it_is_said_what_ends(
    kept: Home, licensing: Licensing
) -> None:
    issued(licensing, "--id", "acme-1")
    [old] = ids(licensing, "issuer")
    rotated(licensing, "issuer")
    said = licensing("keys", "drop", "issuer", old, "--force")
    assert said.code == 0
    assert "acme-1" in said.err


def test_a_lease_key_stays_while_a_license_file_names_no_other(kept: Home, licensing: Licensing) -> None:
    issued(licensing, "--id", "acme-1")
    [old] = ids(licensing, "lease")
    rotated(licensing, "lease")
    said = licensing("keys", "drop", "lease", old)
    assert said.code == 1
    assert "acme-1" in said.err
    issued(licensing, "--id", "acme-1", "--serial", "9999999999")
    assert licensing("keys", "drop", "lease", old).code == 1, "a computer may have the older file"
    renewed(licensing, "acme-1")
    assert licensing("keys", "drop", "lease", old).code == 0


def test_a_leaked_lease_key_signs_for_old_files_and_is_named_by_no_new_one(kept: Home, licensing: Licensing) -> None:
    [old] = ids(licensing, "lease")
    assert licensing("keys", "drop", "lease", old, "--keep-signing").code == 1
    new = rotated(licensing, "lease")
    assert licensing("keys", "drop", "lease", old, "--keep-signing").code == 0
    assert [key["kid"] for key in kept.lease_keys()["keys"]] == [new]
    assert ids(licensing, "lease") == [new, old]
    newer = rotated(licensing, "lease")
    assert [key["kid"] for key in kept.lease_keys()["keys"]] == [newer, new]


# A vault.


def test_create_fills_a_vault_and_nothing_secret_touches_the_disk(
    kept: Home, licensing: Licensing, vault: Vault
) -> None:
    said = licensing("keys", "create", "--vault", "kv-test")
    assert said.code == 0, said.err
    assert vault.secrets.keys() == {"lease-keys", "peppers"}
    settings = Settings.load(
        {
            "LICENSING_HOME": str(kept.folder),
            "LICENSING_LEASE_KEYS": vault.secrets["lease-keys"][0],
            "LICENSING_PEPPERS": vault.secrets["peppers"][0],
            "LICENSING_ISSUER_KEYS": said.out,
        }
    )
    assert [key["kid"] for key in kept.lease_keys()["keys"]] == [settings.lease_keys.kid]
    assert list(settings.issuer_keys.keys) == [kept.issuer_keys().kid]
    secret = [json.loads(vault.secrets["lease-keys"][0])["keys"][0]["d"]]
    secret += json.loads(vault.secrets["peppers"][0]).values()
    written = "".join(file.read_bytes().decode(errors="replace") for file in kept.folder.iterdir())
    assert [value for value in secret if value in written + said.out + said.err] == []


def test_create_never_overwrites(kept: Home, licensing: Licensing, vault: Vault) -> None:
    assert licensing("keys", "create", "--vault", "kv-test").code == 0
    before, named = dict(vault.secrets), kept.lease_keys()
    said = licensing("keys", "create", "--vault", "kv-test")
    assert (said.code, said.out) == (1, "")
    assert (vault.secrets, kept.lease_keys()) == (before, named)


def test_create_goes_on_where_it_was_cut_off(kept: Home, licensing: Licensing, vault: Vault) -> None:
    assert licensing("keys", "create", "--vault", "kv-test").code == 0
    leases = vault.secrets["lease-keys"]
    del vault.secrets["peppers"]
    assert licensing("keys", "create", "--vault", "kv-test").code == 0
    assert vault.secrets["lease-keys"] == leases
    assert len(vault.secrets["peppers"]) == 1


@pytest.mark.parametrize("kind", ["pepper", "lease"])
def test_keys_in_a_vault_are_rotated_and_dropped_there(
    kept: Home, licensing: Licensing, vault: Vault, kind: str
) -> None:
    assert licensing("keys", "create", "--vault", "kv-test").code == 0
    local = (kept.folder / "local.settings.json").read_bytes()
    [old] = ids(licensing, kind, "--vault", "kv-test")
    new = rotated(licensing, kind, "--vault", "kv-test")
    assert ids(licensing, kind, "--vault", "kv-test") == [new, old]
    assert licensing("keys", "drop", kind, old, "--vault", "kv-test").code == 0
    assert ids(licensing, kind, "--vault", "kv-test") == [new]
    assert (kept.folder / "local.settings.json").read_bytes() == local
    assert audited(licensing, f"{old} in kv-test") == [("keys create", "done"), (f"keys drop {kind}", "done")]


def test_license_files_never_name_keys_of_two_services(kept: Home, licensing: Licensing, vault: Vault) -> None:
    assert licensing("keys", "create", "--vault", "kv-test").code == 0
    named = kept.lease_keys()
    said = licensing("keys", "rotate", "lease")
    assert said.code == 1
    assert "--vault" in said.err
    assert kept.lease_keys() == named


def test_the_issuers_key_never_goes_to_a_vault(kept: Home, licensing: Licensing, vault: Vault) -> None:
    assert licensing("keys", "rotate", "issuer", "--vault", "kv-test").code == 2
    assert vault.secrets == {}


@pytest.mark.parametrize(("status", "words"), [(401, "az login"), (403, "Key Vault Secrets Officer"), (500, "500")])
def test_a_vault_that_refuses_is_explained(
    kept: Home, licensing: Licensing, vault: Vault, status: int, words: str
) -> None:
    vault.refuses = status
    said = licensing("keys", "create", "--vault", "kv-test")
    assert said.code == 1
    assert words in said.err


def test_a_vault_of_a_made_up_name_is_never_called(kept: Home, licensing: Licensing) -> None:
    said = licensing("keys", "show", "--vault", "evil.example/x")
    assert said.code == 1
    assert "not the name of a key vault" in said.err


def test_a_vaults_change_is_not_in_the_local_services_audit(made: Path, licensing: Licensing, vault: Vault) -> None:
    said = licensing("keys", "create", "--vault", "kv-test")  # with the home's store not running
    assert said.code == 0, said.err
    assert "audit" in said.err
