"""`licensing keys`: peppers, lease keys and issuer keys; docs/keys.md says when to change them and in which order.

There is a list of keys for each kind; the first one is current. A change of lease keys writes the service's secrets and
the home in such an order that after a crash the service still has every key that license files need. Nobody else
changes the home from the moment at which a list is read until it is written.
"""

import json
import os
from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import partial
from typing import Annotated, Any

import typer
from typer import Argument, Option

from licensing.cli.context import environment, home, in_event_loop, operator, store
from licensing.cli.home import Home, new_pepper, public_jwks
from licensing.cli.options import wrong_usage
from licensing.cli.output import count, err, fail, named, out, print_json_line, table
from licensing.cli.secret_store import Secret, Vault, secret_store
from licensing.crypto.keys import Jwk, new_private_jwk
from licensing.crypto.sealing import Sealer
from licensing.errors import SettingsError
from licensing.rules.license import last_day
from licensing.services.audit import Subject, audited, key_subject
from licensing.services.license_files import reseal
from licensing.services.service import utc_now
from licensing.settings import PEPPERS, names_store

commands = typer.Typer(no_args_is_help=True, help="Show, rotate and drop peppers, lease keys and issuer keys.")


class KeyKind(StrEnum):
    """What a key is for."""

    PEPPER = "pepper"
    LEASE = "lease"
    ISSUER = "issuer"


PURPOSES = {
    KeyKind.PEPPER: ("makes the pseudonyms of new sessions", "finds people in older sessions"),
    KeyKind.LEASE: ("signs leases", "signs leases for license files that name no newer one"),
    KeyKind.ISSUER: ("signs license files", "verifies license files that it has signed"),
}
"""What the current key of a kind does, and what the others do."""
KINDS = {Secret.LEASE_KEYS: KeyKind.LEASE, Secret.PEPPERS: KeyKind.PEPPER}


def _kind(typed: str) -> KeyKind:
    with wrong_usage(f"KIND is one of {', '.join(KeyKind)}"):  # what was typed is not repeated
        return KeyKind(typed)


KindArgument = Annotated[
    KeyKind, Argument(parser=_kind, metavar="KIND", help=f"The kind of key: {', '.join(KeyKind)}.")
]


class Keys:
    """The lists of keys of one service, by id, the current one first."""

    def __init__(self, here: Home, vault: str | None) -> None:
        self._home = here
        self.secrets = secret_store(here, vault)

    def load(self, kind: KeyKind) -> dict[str, Any]:
        """The list of one kind. SettingsError if it is missing or cannot be read."""
        if kind is KeyKind.ISSUER:
            return _by_id(self._home.issuer_jwks())
        secret = Secret.PEPPERS if kind is KeyKind.PEPPER else Secret.LEASE_KEYS
        text = self.secrets.read(secret)
        if text is None:
            raise SettingsError(f"there is no secret {secret}; `licensing keys create` makes it")
        try:
            value = json.loads(text)
            return dict(value) if kind is KeyKind.PEPPER else _by_id(value["keys"])
        except (ValueError, TypeError, KeyError):
            raise SettingsError(f"the secret {secret} is damaged: it cannot be read") from None

    def save(self, kind: KeyKind, keys: dict[str, Any]) -> None:
        """Replace a list."""
        match kind:
            case KeyKind.ISSUER:
                self._home.save_issuer_jwks(list(keys.values()))
            case KeyKind.PEPPER:
                self.secrets.write(Secret.PEPPERS, json.dumps(keys))
            case KeyKind.LEASE:
                self.secrets.write(Secret.LEASE_KEYS, json.dumps({"keys": list(keys.values())}))

    def load_trusted(self) -> dict[str, Jwk]:
        """The public lease keys that new license files trust. SettingsError if they are another service's."""
        trusted = _by_id(self._home.lease_keys()["keys"])
        if not trusted.keys() & self.load(KeyKind.LEASE).keys():
            raise SettingsError(
                "this home's license files name another service's lease keys: give that one's --vault, or leave it out"
            )
        return trusted

    def save_trusted(self, keys: Mapping[str, Jwk]) -> None:
        """Replace the lease keys that new license files trust."""
        self._home.save_lease_keys(list(keys.values()))


@commands.command()
def show(
    vault: Vault = None,
    public: Annotated[
        bool, Option("--public", help="Print only the issuer's public keys (JWKS), which a deployment needs.")
    ] = False,
    as_json: Annotated[bool, Option("--json", help="Print JSON, one line for each key.")] = False,
) -> None:
    """List the keys by id, and what each is for. Secrets are never shown."""
    here = home()
    if public:
        out.print(json.dumps(public_jwks(here.issuer_jwks())))
        return
    keys = Keys(here, vault)
    trusted = keys.load_trusted()
    lines = []
    for kind in KeyKind:
        for place, key_id in enumerate(keys.load(kind)):
            purpose = PURPOSES[kind][min(place, 1)]
            if kind is KeyKind.LEASE and key_id not in trusted:
                purpose += "; new license files do not name it"
            lines.append({"kind": kind, "id": key_id, "current": place == 0, "purpose": purpose})
    if as_json:
        for line in lines:
            print_json_line(line)
        return
    rows = [(line["kind"], line["id"], "yes" if line["current"] else "", line["purpose"]) for line in lines]
    out.print(table("kind", "id", "current", "what for", rows=rows))


@commands.command()
def rotate(
    kind: KindArgument,
    vault: Vault = None,
    later: Annotated[bool, Option("--later", help="Add a key to the list without making it current.")] = False,
    to: Annotated[str | None, Option(metavar="ID", help="Make no new key; make this existing one current.")] = None,
) -> None:
    """Make a new key and make it current. The old keys stay, since older files and sessions need them.

    The id of the key is printed.
    """
    if later and to:
        raise typer.BadParameter("--later makes a new key, --to takes an existing one: give only one of them")
    here = home()
    keys = _keys(here, kind, vault)
    with here.changing():
        present = keys.load(kind)
        if to is not None and to not in present:
            fail(f"There is no {named(f'{kind} key', to)}; `licensing keys show` lists them.")
        key_id, key = (to, present[to]) if to else _new(kind)
        rotated = {**present, key_id: key} if later else {key_id: key, **present}
        trusted = keys.load_trusted() if kind is KeyKind.LEASE else {}

        def change() -> None:
            # The service first: as long as no file names the new key, the service signs with older ones.
            keys.save(kind, rotated)
            if kind is KeyKind.LEASE and to is None:
                keys.save_trusted({key_id: key, **trusted})

        _change(f"keys rotate {kind}", key_subject(key_id, rotated, vault), vault, change)
    out.print(key_id)
    role, others = "added, but not current" if later else "current", len(rotated) - 1
    err.print(f"This {kind} key is {role}; there {'is' if others == 1 else 'are'} {count(others, 'other key')}.")
    err.print("Next: docs/keys.md says what to do, and how long to wait.")


# The id of a key may begin with a hyphen.
@commands.command(context_settings={"ignore_unknown_options": True})
def drop(
    kind: KindArgument,
    key_id: Annotated[str, Argument(metavar="ID", help="Id of the key; `licensing keys show` lists them.")],
    vault: Vault = None,
    keep_signing: Annotated[
        bool,
        Option(
            "--keep-signing",
            help="Only for a lease key: leave it out of new license files, and keep it for older ones.",
        ),
    ] = False,
    force: Annotated[
        bool, Option("--force", help="Drop the key although license files or sessions still need it.")
    ] = False,
) -> None:
    """Delete a key for good, unless license files or sessions still need it. The current key cannot be dropped."""
    if keep_signing and kind is not KeyKind.LEASE:
        raise typer.BadParameter("--keep-signing is for lease keys")
    here = home()
    keys = _keys(here, kind, vault)
    with here.changing():
        _drop(here, keys, kind, key_id, vault, keep_signing=keep_signing, force=force)


def _drop(
    here: Home, keys: Keys, kind: KeyKind, key_id: str, vault: str | None, *, keep_signing: bool, force: bool
) -> None:
    present = keys.load(kind)
    if key_id not in present:
        fail(f"There is no {named(f'{kind} key', key_id)}; `licensing keys show` lists them.")
    if len(present) == 1:
        fail(f"{key_id} is the only {kind} key: without one, the service cannot run. Rotate first.")
    if key_id == next(iter(present)):
        fail(f"{key_id} is the current {kind} key. Rotate first; then it can be dropped.")
    left = _without(key_id, present)
    if keep_signing:
        others = _without(key_id, keys.load_trusted())
        if not others.keys() & left.keys():
            fail(f"{key_id} is the only key that new license files name. Rotate first.")
        _change("keys withdraw lease", key_subject(key_id, present, vault), vault, lambda: keys.save_trusted(others))
        err.print(f"New license files do not name {key_id}; it still signs for older ones.")
        return
    dependents = _dependents(kind, key_id, left, here, vault)
    if dependents:
        err.print(dependents, style="yellow")
        if not force:
            fail(f"{key_id} was not dropped. docs/keys.md says when it can be; --force drops it all the same.")
    if kind is KeyKind.PEPPER:
        _reseal(key_id, present, vault)

    def change() -> None:
        if kind is KeyKind.LEASE:  # new files first, so that none names a key that the service lacks
            keys.save_trusted(_without(key_id, keys.load_trusted()))
        keys.save(kind, left)

    _change(f"keys drop {kind}", key_subject(key_id, present, vault), vault, change)
    err.print(f"Dropped {key_id}.")


@commands.command()
def create(vault: Annotated[str, Option(metavar="NAME", help="The key vault.")]) -> None:
    """Make a lease key and a pepper in a key vault. They never touch the disk, and nothing is overwritten.

    New license files name the vault's lease keys from then on. The issuer's public keys are printed; the deployment
    needs them as LICENSING_ISSUER_KEYS.
    """
    here = home()
    with here.changing():
        _create(here, vault)


def _create(here: Home, vault: str) -> None:
    issuer = json.dumps(public_jwks(here.issuer_jwks()))
    keys = Keys(here, vault)
    missing = [secret for secret in Secret if keys.secrets.read(secret) is None]
    for secret in missing:
        kind = KINDS[secret]
        key_id, key = _new(kind)
        made = {key_id: key}
        _change("keys create", key_subject(key_id, made, vault, kind), vault, partial(keys.save, kind, made))
        err.print(f"Made the secret {secret} in {vault}, with the key {key_id}.")
    lease_keys = keys.load(KeyKind.LEASE)
    if not _by_id(here.lease_keys()["keys"]).keys() & lease_keys.keys():
        keys.save_trusted(lease_keys)
        err.print(f"New license files of {here.folder} name the vault's lease keys.")
    if not missing:
        fail(f"{vault} holds both secrets already; they were not changed. `licensing keys rotate` adds new keys.")
    out.print(issuer)


def _keys(here: Home, kind: KeyKind, vault: str | None) -> Keys:
    if kind is KeyKind.ISSUER and vault:
        raise typer.BadParameter("the issuer's keys are in the home and never in a vault: leave --vault out")
    return Keys(here, vault)


def _new(kind: KeyKind) -> tuple[str, Any]:
    if kind is KeyKind.PEPPER:
        return new_pepper()
    jwk = new_private_jwk()
    return jwk["kid"], jwk


def _by_id(jwks: list[Jwk]) -> dict[str, Jwk]:
    return {jwk["kid"]: jwk for jwk in jwks}


def _without(key_id: str, keys: Mapping[str, Any]) -> dict[str, Any]:
    return {each: key for each, key in keys.items() if each != key_id}


def _store_of(vault: str | None) -> Mapping[str, str] | None:
    """The settings that name the store of the service whose keys are changed; None if none are.

    A vault's keys are never those of the home's local service, so that the home's settings do not count then.
    """
    values = os.environ if vault else environment()
    return values if names_store(values) else None


@in_event_loop
async def _change(what: str, subject: Subject, vault: str | None, change: Callable[[], None]) -> None:
    """Make a change, and record it in the audit if a store is named."""
    values = _store_of(vault)
    if values is None:
        err.print("No store is named (LICENSING_STORAGE__tableServiceUri), so the audit does not record this.")
        change()
        return
    async with store(values) as (register, _), audited(register, utc_now, operator(), what, subject):
        change()


def _reseal(pepper: str, peppers: Mapping[str, Any], vault: str | None) -> None:
    """Seal the license files that the register keeps under a pepper under the current one, the first of `peppers`."""
    values = _store_of(vault)
    if values is None:
        return
    sealer = Sealer(PEPPERS.read({PEPPERS.name: json.dumps(peppers)}))
    done, unreadable = _resealed(values, sealer, pepper, key_subject(pepper, peppers, vault))
    if done:
        err.print(f"The newest files of {count(done, 'license')} are kept under {sealer.pepper} now.")
    for license_id in unreadable:
        err.print(f"The file that is kept of {license_id} cannot be read; publish it again.", style="yellow")


@in_event_loop
async def _resealed(values: Mapping[str, str], sealer: Sealer, pepper: str, subject: Subject) -> tuple[int, list[str]]:
    async with store(values) as (register, _):
        if not await register.files_under(pepper):
            return 0, []
        async with audited(register, utc_now, operator(), "keys reseal", subject):
            return await reseal(register, sealer, pepper)


def _dependents(kind: KeyKind, key_id: str, left: Mapping[str, Any], here: Home, vault: str | None) -> str | None:
    """What stops working without a key, in words for people; None if nothing does."""
    if kind is KeyKind.PEPPER:
        return _dependent_sessions(key_id, vault)
    now = utc_now()
    files = [file for file in here.counting() if file.valid_until > now]
    if kind is KeyKind.ISSUER:
        broken = [file for file in files if file.issuer_kid == key_id]
    else:
        broken = [file for file in files if key_id in file.lease_kids and not file.lease_kids & left.keys()]
    if not broken:
        return None
    listed = "\n".join(
        f"  {file.license_id}, serial {file.serial}, valid until {last_day(file.valid_until)}" for file in broken
    )
    why = "are signed with it" if kind is KeyKind.ISSUER else "name no other lease key"
    return (
        f"These license files {why}, and stop working:\n{listed}\nA renewal does not end older files, since some "
        "computer may still have them; `licensing license renew --revoke-older` does."
    )


@in_event_loop
async def _dependent_sessions(pepper: str, vault: str | None) -> str | None:
    values = _store_of(vault)
    if values is None:
        return "No store is named (LICENSING_STORAGE__tableServiceUri), so nobody knows whether sessions need it."
    async with store(values) as (register, _):
        if not await register.stored_under(pepper):
            return None
    return (
        f"Sessions are stored under {pepper}. Without it, nobody can find the people in them again, not even for their "
        "own requests. The last of these sessions is deleted a year after its end."
    )
