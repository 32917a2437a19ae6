"""What a license is to say: decided against the home, signed, and noted in the books.

The rules, in this order; the first that is broken is the answer, as a ClaimError:

1. A new customer has a name; a known one keeps its salt, and its name unless `rename` is meant.
2. A license keeps its customer and its kind (docs/adr/0025).
3. A newer file has a higher serial: the lowest that no file of the home has, at least the time in seconds.
4. The claims make a consistent license (`licensing.rules.license`), which is small enough to be sent with a start.

A file that would say what the newest one says is that one: nothing is signed.

Left to others: what is shown and asked before (`licensing.cli.issue`), and the delivery.
"""

import hashlib
import json
import re
import secrets
import string
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pydantic import ValidationError

from licensing.cli.books import Books, IssuedFile
from licensing.cli.claims import CLAIMS, STRICT_GRACE, ClaimError, explained, read_claims
from licensing.cli.home import CustomerRecord, Home, new_salt
from licensing.cli.license_words import changes
from licensing.cli.listed_names import hashes
from licensing.crypto.pseudonyms import ClientKind
from licensing.crypto.tokens import write_license
from licensing.rules.license import HIGHEST_SERIAL, HOLD_BEYOND_GRACE, License, is_identifier

ID_LENGTH: Final = 64
_SLUG_LENGTH: Final = 24
_RANDOM_LENGTH: Final = 8
_NEEDED: Final = ("organization.id", "product", "exp")


Signed = tuple[License, str]
"""A license and its JWS."""


@dataclass(frozen=True, slots=True)
class LicenseRequest:
    """What a license is to say.

    `claims` has values of options by their claims; users and hosts are names or hashes. Other claims are those of
    `base`, a file that is renewed, or else usual ones. `order` is the vendor's reference, for the books.
    """

    claims: Mapping[str, Any]
    base: License | None = None
    strict: bool = False
    rename: bool = False
    revoke_older: bool = False
    end_trial: bool = False
    order: str | None = None


@dataclass(frozen=True, slots=True)
class Draft:
    """A license that can be signed. `content` is a digest of what was requested, names as their hashes.

    `newest` is the license's newest file in the books; None for a new license. `changes` says in words which terms
    change; `unknown` that nobody knows what they were. `present` is the file that says all this already, with the
    same keys.
    """

    license: License
    customer: CustomerRecord
    content: str
    newest: IssuedFile | None = None
    changes: tuple[str, ...] = ()
    unknown: bool = False
    present: Signed | None = None


def new_license_id(books: Books, organization_id: str, product: str) -> str:
    """An id that no license of the home has: customer, product, and 8 random letters and digits."""
    slug = re.sub(r"[^a-z0-9]+", "-", product.lower()).strip("-")[:_SLUG_LENGTH].strip("-") or "license"
    name = f"{organization_id}-{slug}"[: ID_LENGTH - _RANDOM_LENGTH - 1].rstrip("-")
    while True:
        random = "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(_RANDOM_LENGTH))
        if books.newest_of(f"{name}-{random}") is None:
            return f"{name}-{random}"


def draft_of(
    here: Home,
    books: Books,
    request: LicenseRequest,
    now: datetime,
    customers: Mapping[str, CustomerRecord] | None = None,
) -> Draft:
    """Decide what a license says, at `now` (UTC). ClaimError if it cannot be as it was requested.

    `customers` go before those of the home: they are made or renamed by requests that come first.
    """
    given = read_claims(request.claims)
    customer = _customer(here, given, request, customers or {})
    given = _with_hashes(given, customer.salt)
    content = _digest(given, request)
    if request.base is None:
        for name in _NEEDED:
            if name not in given and not (name == "exp" and "trial" in given):
                raise ClaimError(name, "it is missing")
    license_id = request.base.id if request.base else given.get("sub")
    if license_id is not None and not is_identifier(license_id):
        raise ClaimError("sub", f"takes {CLAIMS['sub'].takes}")
    newest = books.newest_of(license_id) if license_id else None
    before = request.base or (newest.license if newest else None)
    claims = _terms(here, given, request, before, int(now.timestamp()))
    claims["organization"], claims["salt"] = {"id": customer.id, "name": customer.name}, customer.salt
    claims["sub"] = license_id or new_license_id(books, customer.id, claims["product"])
    former = max(newest.serial if newest else 0, before.serial if before else 0)
    free = min(books.free_serial(max(claims["iat"], former + 1)), HIGHEST_SERIAL)
    claims["serial"] = given.get("serial", free)
    if request.revoke_older:
        claims["oldest"] = claims["serial"]
    license = _validated(claims)
    _check_identity(license, newest, before)
    return _compared(Draft(license, customer, content, newest), here, before, former, given, request)


def content_of(here: Home, request: LicenseRequest, customers: Mapping[str, CustomerRecord]) -> str | None:
    """The digest that a draft would have; None for a new customer, of whom nothing was issued before.

    ClaimError if a value is wrong.
    """
    given = read_claims(request.claims)
    organization_id = given.get("organization.id", "")
    customer = customers.get(organization_id) or here.customer(organization_id)
    return _digest(_with_hashes(given, customer.salt), request) if customer else None


def sign(here: Home, books: Books, draft: Draft, order: str | None) -> Signed:
    """Sign a draft and note the file in the books, and its customer in the home; or the file that says this already.

    ClaimError if the file would be too large to be sent with a start.
    """
    if draft.present:
        return draft.present
    keys, license = here.issuer_keys(), draft.license
    try:
        jws = write_license(license, keys)
    except ValueError as error:
        raise ClaimError("", str(error), refused=True) from None
    here.save_customer(draft.customer)
    file = IssuedFile(
        license.id,
        license.serial,
        jws,
        license.organization.id,
        license.product,
        license.kind,
        license.valid_until,
        keys.kid,
        license.trusted_kids,
        license.issued_at,
        order or (draft.newest.order if draft.newest else None),
    )
    books.note(file)
    return license, jws


def _with_hashes(given: dict[str, Any], salt: str) -> dict[str, Any]:
    kinds: tuple[ClientKind, ...] = ("user", "host")
    listed = {f"{kind}s": hashes(salt, kind, given[f"{kind}s"]) for kind in kinds if f"{kind}s" in given}
    return {**given, **listed}


def _customer(
    here: Home, given: Mapping[str, Any], request: LicenseRequest, customers: Mapping[str, CustomerRecord]
) -> CustomerRecord:
    organization_id, name, salt = (given.get(each) for each in ("organization.id", "organization.name", "salt"))
    base = request.base
    if base:
        organization_id = organization_id or base.organization.id
    if not organization_id:
        raise ClaimError("organization.id", "it is missing")
    if not is_identifier(organization_id):
        raise ClaimError("organization.id", f"takes {CLAIMS['organization.id'].takes}")
    name = name and name.strip()
    earlier = customers.get(organization_id) or here.customer(organization_id)
    if earlier is None and base and base.organization.id == organization_id:
        earlier = CustomerRecord(organization_id, base.organization.name, base.salt)
    if earlier is None:
        if not name:
            raise ClaimError("organization.name", f"{organization_id} is a new customer; give its name")
        return CustomerRecord(organization_id, name, salt or new_salt())
    if salt not in (None, earlier.salt) or (base and base.salt != earlier.salt):
        raise ClaimError(
            "salt",
            f"the names of {organization_id}'s people are hashed with another --salt. With a new one, nobody who has "
            "used a license before could be found again; leave the option out",
        )
    if name and name != earlier.name.strip() and not request.rename:
        raise ClaimError(
            "organization.name",
            f"{organization_id} is known by another name, {earlier.name}. Leave the name out, give a new customer "
            "another id, or add --rename if the customer has a new name",
            refused=True,
        )
    return CustomerRecord(organization_id, name or earlier.name.strip(), earlier.salt)


def _terms(
    here: Home, given: dict[str, Any], request: LicenseRequest, before: License | None, now: int
) -> dict[str, Any]:
    """The claims but for id, serial, customer and salt: what is given, else the base's or usual ones."""
    vendor = here.issuer()
    usual: dict[str, Any] = {"iss": vendor.name, "service": vendor.service, "seats": 1}
    claims = request.base.claims() if request.base else usual
    own = {name: value for name, value in given.items() if not name.startswith("organization.") and name != "trial"}
    claims = {**claims, "lease_keys": here.lease_keys(), **own, "iat": now}
    if "nbf" not in given:
        claims["nbf"] = int(before.valid_from.timestamp()) if before else now
    if "oldest" not in given and before:
        claims["oldest"] = before.oldest
    if "trial" in given:
        if request.strict or request.end_trial or {"exp", "grace"} & given.keys():
            raise ClaimError(
                "trial", "it sets the end and the grace; leave --until, --grace, --strict and --no-trial out"
            )
        claims |= {"trial": True, "exp": claims["nbf"] + given["trial"], "grace": 0}
    if request.end_trial:
        claims["trial"] = False
    if request.strict:
        claims["grace"] = given.get("grace", STRICT_GRACE)
        claims["hold"] = given.get("hold", claims["grace"] + HOLD_BEYOND_GRACE)
    return claims


def _validated(claims: dict[str, Any]) -> License:
    try:
        return License.model_validate(claims)
    except ValidationError as error:
        raise explained(error) from None


def _check_identity(license: License, newest: IssuedFile | None, before: License | None) -> None:
    """A newer file keeps customer and kind, since programs run under it."""
    organization_id = before.organization.id if before else newest.organization_id if newest else ""
    kind = before.kind if before else newest.kind if newest else ""
    hint = (
        "A newer file can change a license's terms, but not its customer or its kind, since programs run under it; "
        "issue a license with another --id"
    )
    if organization_id not in ("", license.organization.id):
        raise ClaimError("organization.id", f"{license.id} is a license of {organization_id}. {hint}")
    if kind not in ("", license.kind):
        raise ClaimError("kind", f"{license.id} is a {kind} license. {hint}")


def _compared(
    draft: Draft, here: Home, before: License | None, former: int, given: Mapping[str, Any], request: LicenseRequest
) -> Draft:
    """The draft with what it changes. ClaimError if its serial is not higher, although it changes something."""
    license, newest = draft.license, draft.newest
    if before is None and newest is None:
        return draft
    found: list[str] = []
    if before is not None:
        after = license
        if request.revoke_older and before.oldest == before.serial:
            after = license.model_copy(update={"oldest": before.oldest})
        found = changes(before, after)
    present = newest.signed if newest and newest.serial == former else None
    if (
        found
        or given.get("serial") not in (None, former)
        or (newest and newest.issuer_kid != here.issuer_keys().kid)
        or (present and present[0].lease_keys != license.lease_keys)
    ):
        present = None
    if not present and license.serial <= former == HIGHEST_SERIAL:
        raise ClaimError(
            "serial",
            f"{license.id} has the highest serial that there is, so that no file can replace it; issue a license with "
            "another --id",
            refused=True,
        )
    if not present and license.serial <= former:
        raise ClaimError(
            "serial",
            f"{license.id} has a file with serial {former}, and programs take none with a lower one, nor another with "
            "the same. Leave the serial out; earlier terms come back in a file with a higher one",
            refused=True,
        )
    return Draft(license, draft.customer, draft.content, newest, tuple(found), before is None, present)


def _digest(given: Mapping[str, Any], request: LicenseRequest) -> str:
    terms = {name: value for name, value in given.items() if name != "sub"}
    words = json.dumps([terms, request.strict, request.order], sort_keys=True)
    return hashlib.sha256(words.encode()).hexdigest()
