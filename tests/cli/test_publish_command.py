"""`licensing license publish`: what an operator sees, and what the register holds afterwards."""

import json
from pathlib import Path
from typing import Any

import pytest

from licensing.cli import publishing
from licensing.cli.home import Home
from licensing.crypto.sealing import Sealer
from licensing.errors import UnavailableError
from licensing.services.publishing import publish
from licensing.settings import PEPPERS
from licensing.storage.register import Register
from licensing.storage.tables import Tables, merge
from tests import factories
from tests.cli.conftest import Do, Licensing, Vault
from tests.factories import new_license_id


@pytest.fixture
def file(do: Do[Any], made: Path, tmp_path: Path) -> Any:
    """Write a file of one license; the license's id is `file.id`."""

    def write(serial: int, **claims: Any) -> str:
        path = tmp_path / f"{serial}.lic"
        path.write_text(factories.issue(Home(made), **{"sub": license_id, "serial": serial, "seats": serial, **claims}))
        return str(path)

    license_id = new_license_id()
    write.id = license_id  # type: ignore[attr-defined]
    return write


def serials(do: Do[Any], license_id: str) -> tuple[int, int] | None:
    """The serials of the state and of the file that is kept."""

    async def look(tables: Tables) -> tuple[int, int] | None:
        register = Register(tables)
        state, kept = await register.state(license_id), await register.kept_file(license_id)
        return (state.value.terms.serial, kept.value.serial if kept else 0) if state else None

    found: tuple[int, int] | None = do(look)
    return found


def test_a_file_is_published_and_the_audit_says_by_whom(licensing: Licensing, do: Do[Any], file: Any) -> None:
    said = licensing("license", "publish", file(3))

    assert said.code == 0, said.err
    assert f"Published {file.id}, serial 3" in said.err
    assert serials(do, file.id) == (3, 3)
    audit = licensing("audit", "--json").out
    assert any('"publish"' in line and file.id in line and '"done"' in line for line in audit.splitlines())


def test_a_refused_file_changes_nothing_and_says_what_to_do(licensing: Licensing, do: Do[Any], file: Any) -> None:
    assert licensing("license", "publish", file(3)).code == 0

    said = licensing("license", "publish", file(2))

    assert said.code == 1
    assert "a newer one, 3, is in force. It stays so; for other terms, renew the license." in said.err
    assert serials(do, file.id) == (3, 3)


def test_after_older_files_were_revoked_the_operator_learns_who_gets_nothing(licensing: Licensing, file: Any) -> None:
    fetched = "Programs that run learn of it at a heartbeat"
    by_hand = f"Files of {file.id} below serial 3 are refused, and their computers are sent no newer one."
    outcomes = [licensing("license", "publish", path).err for path in (file(2), file(3, oldest=3), file(4, oldest=3))]
    assert [(fetched in said, by_hand in said) for said in outcomes] == [(True, False), (False, True), (True, True)]


def test_where_the_store_fails_it_is_said_how_many_are_published(
    licensing: Licensing, do: Do[Any], made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("orders.csv").write_text(
        "organization,organization-name,product,until,id\n"
        + "".join(f"acme,Acme,Pro,2099-12-31,{new_license_id()}\n" for _ in range(3)),
        encoding="utf-8",
    )
    calls: list[tuple[Any, ...]] = []

    async def fails_at_the_third(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 3:
            raise UnavailableError("the store did not answer")
        return await publish(*arguments)

    monkeypatch.setattr(publishing, "publish", fails_at_the_third)
    said = licensing("license", "issue", "--from", "orders.csv", "--out", "licenses", "--publish")
    assert said.code == 1
    assert "2 licenses published. Publish again from" in said.err
    assert "The store cannot be used" in said.err
    assert licensing("license", "issue", "--from", "orders.csv", "--out", "licenses", "--publish").code == 0


def test_a_forged_file_is_not_published(licensing: Licensing, do: Do[Any], file: Any, tmp_path: Path) -> None:
    forged = tmp_path / "forged.lic"
    forged.write_text(Path(file(3)).read_text()[:-8] + "AAAAAAAA")
    said = licensing("license", "publish", str(forged))
    assert said.code == 1
    assert "NOT GENUINE" in said.err
    assert serials(do, file.id) is None


def test_a_service_with_its_keys_in_a_vault_gets_files_sealed_with_these(
    licensing: Licensing, do: Do[Any], file: Any, vault: Vault, made: Path
) -> None:
    assert licensing("license", "publish", file(1), "--vault", "kv-test").code == 1, "the vault is empty"
    assert licensing("keys", "create", "--vault", "kv-test").code == 0

    said = licensing("license", "publish", file(2), "--vault", "kv-test")

    assert said.code == 0, said.err
    pepper = next(iter(json.loads(vault.secrets["peppers"][0])))

    async def sealed_under(tables: Tables) -> str:
        kept = await Register(tables).kept_file(file.id)
        return kept.value.pepper if kept else ""

    assert do(sealed_under) == pepper
    refused = licensing("license", "publish", file(4))
    assert refused.code == 1, "the home's own service signs with another key"
    assert "--vault" in refused.err


def test_a_pepper_is_dropped_after_what_is_sealed_under_it_is_sealed_anew(
    licensing: Licensing, do: Do[Any], file: Any, made: Path
) -> None:
    path = file(3)
    assert licensing("license", "publish", path).code == 0
    peppers = [json.loads(line) for line in licensing("keys", "show", "--json").out.splitlines()]
    old = next(line["id"] for line in peppers if line["kind"] == "pepper")
    assert licensing("keys", "rotate", "pepper").code == 0

    said = licensing("keys", "drop", "pepper", old)

    assert said.code == 0, said.err
    assert "The newest files of" in said.err
    (left,) = json.loads(Home(made).setting("LICENSING_PEPPERS"))

    async def sealed_under(tables: Tables) -> str:
        kept = await Register(tables).kept_file(file.id)
        assert kept is not None
        assert Sealer(PEPPERS.read({"LICENSING_PEPPERS": Home(made).setting("LICENSING_PEPPERS")})).open(
            kept.value.sealed, file.id, 3, kept.value.pepper
        )
        return kept.value.pepper

    assert do(sealed_under) == left != old
    assert '"keys reseal"' in licensing("audit", "--json").out


def test_a_kept_file_that_cannot_be_opened_is_named_when_its_pepper_is_dropped(
    licensing: Licensing, do: Do[Any], file: Any
) -> None:
    assert licensing("license", "publish", file(3)).code == 0
    lines = [json.loads(line) for line in licensing("keys", "show", "--json").out.splitlines()]
    old = next(line["id"] for line in lines if line["kind"] == "pepper")

    async def damage(tables: Tables) -> None:
        await tables.commit("register", file.id, [merge("file", {"sealed": "x"})])

    do(damage)
    assert licensing("keys", "rotate", "pepper").code == 0

    said = licensing("keys", "drop", "pepper", old)

    assert said.code == 0
    assert f"of {file.id} cannot be read; publish it again" in said.err


def test_without_a_kept_file_the_books_say_what_was_before(licensing: Licensing, do: Do[Any], made: Path) -> None:
    license_id, out = new_license_id(), Path("one.lic")
    customer = (
        "--organization",
        "acme",
        "--organization-name",
        "Acme Oy",
        "--product",
        "Water",
        "--until",
        "2037-12-31",
    )
    issued = ("license", "issue", "--id", license_id, *customer)
    assert licensing(*issued, "--out", str(out)).code == 0
    moved = (*issued, "--service", "https://other.example/api", "--yes", "--out", "two.lic")
    assert licensing(*moved).code == 0

    said = licensing("license", "publish", "two.lic")

    assert said.code == 1
    assert "differs from the one before in service" in said.err
    assert serials(do, license_id) is None
    assert licensing("license", "publish", str(out)).code == 0
