"""`licensing keys`: look after peppers, lease keys and issuer keys; docs/keys.md says when and in which order.

Of each kind there is a list, whose first key is current. What a change touches is written in such an order that a crash
in between leaves nothing unknown to the service that a license file rests on.
"""

import json
import os
from collections.abc import Callable, Mapping
from datetime import datetime
from enum import StrEnum
from functools import partial
from typing import Annotated, Any

import typer

from licensing.cli.context import count, environment, err, fail, home, operator, out, run, store, table
from licensing.cli.home import Home, new_pepper
from licensing.cli.secret_store import Secret, SecretStore, Vault, secret_store
from licensing.crypto.keys import Jwk, new_private_jwk, public_jwk
from licensing.errors import SettingsError
from licensing.services.audit import recorded
from licensing.services.service import utc_now
from licensing.settings import names_store

commands = typer.Typer(no_args_is_help=True, help="Show, rotate and drop peppers, lease keys and issuer keys.")


class Kind(StrEnum):
    """What a key is for."""

    PEPPER = "pepper"
    LEASE = "lease"
    ISSUER = "issuer"


PURPOSE = {
    Kind.PEPPER: ("makes the pseudonyms of new sessions", "finds people in older sessions"),
    Kind.LEASE: ("signs leases", "signs leases for license files that name no newer one"),
    Kind.ISSUER: ("signs license files", "vouches for license files that it has signed"),
}

KindOfKey = Annotated[Kind, typer.Argument(help="Kind of key.")]


class Keys:
    """The lists of keys of one service, by id, the current one first."""

    def __init__(self, here: Home, secrets: SecretStore) -> None:
        self._home = here
        self._secrets = secrets

    def load(self, kind: Kind) -> dict[str, Any]:
        """A list; SettingsError where it is missing or cannot be read."""
        if kind is Kind.ISSUER:
            return _by_id(self._home.issuer_jwks())
        secret = Secret.PEPPERS if kind is Kind.PEPPER else Secret.LEASE_KEYS
        text = self._secrets.read(secret)
        if text is None:
            raise SettingsError(f"there is no secret {secret}; `licensing keys create` makes it")
        try:
            value = json.loads(text)
            return dict(value) if kind is Kind.PEPPER else _by_id(value["keys"])
        except (ValueError, TypeError, KeyError):
            raise SettingsError(f"the secret {secret} is damaged: it cannot be read") from None

    def keep(self, kind: Kind, keys: dict[str, Any]) -> None:
        """Replace a list."""
        match kind:
            case Kind.ISSUER:
                self._home.keep_issuer_jwks(list(keys.values()))
            case Kind.PEPPER:
                self._secrets.write(Secret.PEPPERS, json.dumps(keys))
            case Kind.LEASE:
                self._secrets.write(Secret.LEASE_KEYS, json.dumps({"keys": list(keys.values())}))

    def named(self) -> dict[str, Jwk]:
        """The public lease keys that new license files name. SettingsError where they are another service's."""
        named = _by_id(self._home.lease_keys()["keys"])
        if not named.keys() & self.load(Kind.LEASE).keys():
            raise SettingsError(
                "this home's license files name another service's lease keys: give that one's --vault, or leave it out"
            )
        return named

    def name(self, keys: Mapping[str, Jwk]) -> None:
        """Replace what new license files name."""
        self._home.keep_lease_keys(list(keys.values()))


@commands.command()
def show(
    vault: Vault = None,
    public: Annotated[
        bool, typer.Option("--public", help="Only the issuer's public keys, as a deployment wants them (JWKS).")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, a line a key.")] = False,
) -> None:
    """List the keys by id and what each is for; never a secret."""
    here = home()
    if public:
        out.print(_public(here), markup=False)
        return
    keys = Keys(here, secret_store(here, vault))
    named = keys.named()
    lines = []
    for kind in Kind:
        for place, id in enumerate(keys.load(kind)):
            purpose = PURPOSE[kind][min(place, 1)]
            if kind is Kind.LEASE and id not in named:
                purpose += "; new license files do not name it"
            lines.append({"kind": kind.value, "id": id, "current": place == 0, "purpose": purpose})
    if as_json:
        for line in lines:
            out.print(json.dumps(line), markup=False)
        return
    told = table("kind", "id", "current", "what for")
    for line in lines:
        told.add_row(str(line["kind"]), str(line["id"]), "yes" if line["current"] else "", str(line["purpose"]))
    out.print(told)


@commands.command()
def rotate(
    kind: KindOfKey,
    vault: Vault = None,
    later: Annotated[
        bool, typer.Option("--later", help="Make a key that is known everywhere, and not yet current.")
    ] = False,
    to: Annotated[str | None, typer.Option(metavar="ID", help="Make no key, but this one current.")] = None,
) -> None:
    """Make a new key the current one. The old ones stay, for what rests on them; the new one's id is printed."""
    if later and to:
        raise typer.BadParameter("--later makes a key, --to takes one that there is: give one of them")
    keys = _keys(kind, vault)
    known = keys.load(kind)
    if to is not None and to not in known:
        fail(f"There is no {kind} key {to}; `licensing keys show` lists them.")
    id, key = (to, known[to]) if to else _new(kind)
    rotated = {**known, id: key} if later else {id: key, **known}
    if kind is not Kind.LEASE:
        _change(f"keys rotate {kind}", id, vault, partial(keys.keep, kind, rotated))
    else:
        named = keys.named()

        def change() -> None:
            # The service first: while no file names the new key, it signs under the older ones.
            keys.keep(kind, rotated)
            if to is None:
                keys.name({id: key, **named})

        _change(f"keys rotate {kind}", id, vault, change)
    out.print(id, markup=False)
    role = "known, and not yet current" if later else "current"
    err.print(f"This {kind} key is {role}; {count(len(rotated) - 1, 'other key')} beside it.")
    err.print("Next: docs/keys.md says what has to follow, and how long to wait.", markup=False)


# The id of a key may begin with a hyphen.
@commands.command(context_settings={"ignore_unknown_options": True})
def drop(
    kind: KindOfKey,
    id: Annotated[str, typer.Argument(metavar="ID", help="Id of the key; `licensing keys show` lists them.")],
    vault: Vault = None,
    keep_signing: Annotated[
        bool,
        typer.Option("--keep-signing", help="A lease key: only stop naming it in new license files."),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Also where something still rests on the key.")] = False,
) -> None:
    """Take a key out for good, where nothing rests on it any more. The current one cannot go."""
    if keep_signing and kind is not Kind.LEASE:
        raise typer.BadParameter("--keep-signing is for lease keys")
    here, keys = home(), _keys(kind, vault)
    known = keys.load(kind)
    if id not in known:
        fail(f"There is no {kind} key {id}; `licensing keys show` lists them.")
    if len(known) == 1:
        fail(f"{id} is the only {kind} key: without one, the service cannot run. Rotate first.")
    if id == next(iter(known)):
        fail(f"{id} is the current {kind} key. Rotate first; then it can be dropped.")
    left = {each: key for each, key in known.items() if each != id}
    if keep_signing:
        named = keys.named()
        others = {each: key for each, key in named.items() if each != id}
        if not others.keys() & left.keys():
            fail(f"{id} is the only key that new license files name. Rotate first.")
        _change("keys withdraw lease", id, vault, lambda: keys.name(others))
        err.print(f"New license files do not name {id}; it still signs for older ones.", markup=False)
        return
    rests = _what_rests_on(kind, id, left, here, vault)
    if rests:
        err.print(rests, style="yellow", markup=False)
        if not force:
            fail(f"{id} is left where it is. docs/keys.md says when it can go; --force drops it all the same.")

    def change() -> None:
        if kind is Kind.LEASE:  # new files first, so that none names a key that the service lacks
            keys.name({each: key for each, key in keys.named().items() if each != id})
        keys.keep(kind, left)

    _change(f"keys drop {kind}", id, vault, change)
    err.print(f"Dropped {id}.", markup=False)


@commands.command()
def create(vault: Annotated[str, typer.Option(metavar="NAME", help="The key vault.")]) -> None:
    """Make a lease key and a pepper in a key vault. They never touch the disk, and nothing is ever overwritten.

    New license files name the vault's lease keys from then on. The issuer's public keys, which the deployment wants as
    LICENSING_ISSUER_KEYS, are printed.
    """
    here = home()
    issuer = _public(here)
    secrets = secret_store(here, vault)
    keys = Keys(here, secrets)
    missing = [secret for secret in Secret if secrets.read(secret) is None]
    made = {Secret.LEASE_KEYS: Kind.LEASE, Secret.PEPPERS: Kind.PEPPER}
    for secret in missing:
        kind = made[secret]
        id, key = _new(kind)
        _change("keys create", f"{kind} {id}", vault, partial(keys.keep, kind, {id: key}))
        err.print(f"Made the secret {secret} in {vault}, with the key {id}.", markup=False)
    leases = keys.load(Kind.LEASE)
    if not _by_id(here.lease_keys()["keys"]).keys() & leases.keys():
        keys.name(leases)
        err.print(f"New license files of {here.folder} name the vault's lease keys.", markup=False)
    if not missing:
        fail(f"{vault} holds both secrets already; they are left as they are. `licensing keys rotate` adds new keys.")
    out.print(issuer, markup=False)


def _keys(kind: Kind, vault: str | None) -> Keys:
    if kind is Kind.ISSUER and vault:
        raise typer.BadParameter("the issuer's keys stay in the home and never go to a vault: leave --vault out")
    return Keys(home(), secret_store(home(), vault))


def _new(kind: Kind) -> tuple[str, Any]:
    if kind is Kind.PEPPER:
        return new_pepper()
    jwk = new_private_jwk()
    return jwk["kid"], jwk


def _by_id(jwks: list[Jwk]) -> dict[str, Jwk]:
    return {jwk["kid"]: jwk for jwk in jwks}


def _public(here: Home) -> str:
    return json.dumps({"keys": [public_jwk(key) for key in here.issuer_jwks()]})


def _store_of(vault: str | None) -> Mapping[str, str] | None:
    """The store of the service whose keys are meant: a vault's is never that of the home's local service."""
    values = os.environ if vault else environment()
    return values if names_store(values) else None


def _change(what: str, subject: str, vault: str | None, change: Callable[[], None]) -> None:
    """Make a change, and record it where there is a store."""
    values = _store_of(vault)
    if values is None:
        err.print("No store is named (LICENSING_STORAGE__tableServiceUri): the audit will not tell of this.")
        change()
        return

    async def work() -> None:
        where = f"{subject} in {vault}" if vault else subject
        async with store(values) as (register, _), recorded(register, utc_now, operator(), what, where):
            change()

    run(work())


def _what_rests_on(kind: Kind, id: str, left: Mapping[str, Any], here: Home, vault: str | None) -> str | None:
    """What stops working when a key goes, in words for people; None where nothing does."""
    if kind is Kind.PEPPER:
        return _sessions_on(id, vault)
    now = utc_now()
    files = [each for each in here.issued() if each.until > now]
    if kind is Kind.ISSUER:
        ending = [each for each in files if each.issuer_key == id]
    else:
        ending = [each for each in files if id in each.lease_keys and not each.lease_keys & left.keys()]
    if not ending:
        return None
    listed = "\n".join(f"  {each.license}, valid until {_until(each.until)}" for each in ending)
    why = "signed with it" if kind is Kind.ISSUER else "that name no lease key beside it"
    return f"These license files, {why}, stop working:\n{listed}"


def _sessions_on(pepper: str, vault: str | None) -> str | None:
    values = _store_of(vault)
    if values is None:
        return "No store is named (LICENSING_STORAGE__tableServiceUri), so it cannot be told who would be lost."

    async def work() -> bool:
        async with store(values) as (register, _):
            return await register.stored_under(pepper)

    if not run(work()):
        return None
    return (
        f"Sessions are stored under {pepper}. Without it the people in them can never be found again, by nobody: not "
        "for their own requests either. The last of these sessions goes a year after its end."
    )


def _until(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
