"""License files, leases and links to reports: signed texts (compact JWS, RFC 7515), none to be taken for another.

The rules, which hold before a word of a token is believed:

- at most `LICENSE_LIMIT` or `LEASE_LIMIT` characters;
- three parts in base64url without padding, each written in the one way there is;
- a header of exactly `alg`, `kid` and `typ`; `alg` EdDSA and nothing else; the `typ` that the caller expects;
- a `kid` among the keys that the caller trusts for this type;
- a signature by that key over exactly this header and this payload.

How the formats may evolve: a license file may gain claims, which old readers ignore; a claim never changes its
meaning, and a file that needs one to do so gets a new `typ`, which old readers refuse.

Left to others: dates and everything else that a genuine license says (`licensing.rules`).
"""

import json
import re
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal

from jwt.algorithms import OKPAlgorithm
from jwt.api_jws import PyJWS
from jwt.exceptions import InvalidTokenError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from licensing.crypto.keys import SigningKeys, VerifyingKeys
from licensing.crypto.pseudonyms import from_base64url
from licensing.errors import Flaw, TokenError
from licensing.rules.license import Identifier, License, Moment, Seconds, Text

LICENSE_TYPE = "license+jwt"
LEASE_TYPE = "lease+jwt"
LICENSE_LIMIT = 12 * 1024
LEASE_LIMIT = LICENSE_LIMIT
REPORT_TYPE = "report+jwt"
REPORT_LIMIT = 2 * 1024
LEASE_ISSUER: Final = "licensing"

_jws = PyJWS(algorithms=["EdDSA"])
_eddsa = OKPAlgorithm()
# Four characters hold three bytes; what is left at the end holds one or two, and its last bits are zero.
_PART = r"(?=[^.])(?:[A-Za-z0-9_-]{4})*(?:[A-Za-z0-9_-][AQgw]|[A-Za-z0-9_-]{2}[AEIMQUYcgkosw048])?"
_COMPACT = re.compile(rf"(({_PART})\.({_PART}))\.({_PART})")


def sign(claims: Mapping[str, Any], typ: str, keys: SigningKeys, kid: str | None = None) -> str:
    """Sign claims with the one of `keys` that `kid` names, by default the current one."""
    kid = kid or keys.kid
    payload = json.dumps(claims, separators=(",", ":"), ensure_ascii=False).encode()
    return _jws.encode(payload, keys.private[kid], algorithm="EdDSA", headers={"typ": typ, "kid": kid})


def signed_by(token: str) -> str:
    """The id of the key that signed a token, which has to be known for genuine: nothing is checked here."""
    return str(_header(token.partition(".")[0])["kid"])


def verified(token: str, typ: str, keys: VerifyingKeys, limit: int) -> dict[str, Any]:
    """The claims of a genuine token of one type. TokenError says what is wrong with any other."""
    if len(token) > limit:
        raise TokenError(Flaw.OVERSIZE, f"is larger than {limit} characters")
    try:
        parts = _COMPACT.fullmatch(token)
        if not parts:
            raise ValueError
        signed, head, payload, signature = parts.groups()
        header = _header(head)
    except (InvalidTokenError, ValueError, RecursionError):
        raise TokenError(Flaw.DAMAGED, "is damaged: it is not a signed text, or not a whole one") from None
    if header.get("alg") != "EdDSA" or header.keys() != {"alg", "kid", "typ"}:
        raise TokenError(Flaw.FORGED, "is forged: it is not signed in the way that genuine ones are")
    if header["typ"] != typ:
        raise TokenError(Flaw.WRONG_TYPE, f"is of another type than {typ}")
    key = keys.keys.get(header["kid"]) if isinstance(header["kid"], str) else None
    if key is None:
        raise TokenError(Flaw.UNKNOWN_KEY, "is signed with a key that is not trusted here")
    # All that PyJWT would check besides has been checked: it takes tokens apart once more, a letter at a time.
    if not _eddsa.verify(signed.encode(), key, from_base64url(signature)):
        raise TokenError(Flaw.FORGED, "was altered after it was signed, or is forged")
    try:
        claims = json.loads(from_base64url(payload))
    except (ValueError, RecursionError):
        raise TokenError(Flaw.MALFORMED, "is signed, but holds no claims") from None
    if not isinstance(claims, dict):
        raise TokenError(Flaw.MALFORMED, "is signed, but holds no claims")
    return claims


@lru_cache(maxsize=32)
def _header(part: str) -> Mapping[str, Any]:
    """What the first part of a token says: all of a type and a key have the same, and PyJWT reads whole tokens only."""
    return MappingProxyType(_jws.get_unverified_header(f"{part}.e30.e30"))


def license_text(file: str) -> str:
    """The JWS in a license file: its one line that is neither blank nor a comment. TokenError where there is none."""
    lines = [line.strip() for line in file.removeprefix("\ufeff").splitlines()]
    tokens = [line for line in lines if line and not line.startswith("#")]
    if len(tokens) != 1:
        raise TokenError(Flaw.DAMAGED, "is damaged: a license file has one line that is not a comment")
    return tokens[0]


def read_license(token: str, keys: VerifyingKeys) -> License:
    """The license that a genuine issuer signed, whatever its dates. TokenError for anything else."""
    claims = verified(token, LICENSE_TYPE, keys, LICENSE_LIMIT)
    try:
        return License.model_validate(claims)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        message = f"{where}: {first['msg']}" if where else first["msg"]
        raise TokenError(Flaw.MALFORMED, f"is signed, but contradicts itself ({message})") from None


def write_license(terms: License, keys: SigningKeys) -> str:
    """Sign a license. ValueError where the result is too large to be sent with a start."""
    token = sign(terms.claims(), LICENSE_TYPE, keys)
    if len(token) > LICENSE_LIMIT:
        raise ValueError(
            f"the license would be {len(token)} characters long, {LICENSE_LIMIT} at most can be sent at a start: "
            "list fewer users or hosts, or issue several licenses"
        )
    return token


class Lease(BaseModel):
    """The signed answer that lets a program run until `expires_at` (UTC, whole seconds).

    Claims with short JWT names have long ones here; `claims()` gives them back as they are signed.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True, strict=True)

    issuer: Literal["licensing"] = Field(default=LEASE_ISSUER, alias="iss")
    session: Text = Field(alias="sub")
    license: Identifier = Field(alias="aud")
    issued_at: Moment = Field(alias="iat")
    expires_at: Moment = Field(alias="exp")
    nonce: Text
    features: Annotated[tuple[Text, ...], Field(strict=False)]
    grace: Seconds
    borrowed: bool
    overdraft: bool

    def claims(self) -> dict[str, Any]:
        """The claims as they are signed: short names, NumericDates, plain JSON types."""
        return self.model_dump(mode="json", by_alias=True)


def read_lease(token: str, keys: VerifyingKeys) -> Lease:
    """The lease that this service signed, also when it has expired: the register decides what it is worth then."""
    claims = verified(token, LEASE_TYPE, keys, LEASE_LIMIT)
    try:
        return Lease.model_validate(claims)
    except ValidationError:
        raise TokenError(Flaw.MALFORMED, "is signed, but is no lease") from None


def write_lease(lease: Lease, keys: SigningKeys, kid: str | None = None) -> str:
    """Sign a lease with the lease key that `kid` names, by default the current one."""
    return sign(lease.claims(), LEASE_TYPE, keys, kid)


class ReportPass(BaseModel):
    """Leave to read one organization's figures until `expires_at`; the vendor's issuer key signs it."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True, strict=True)

    issuer: Text = Field(alias="iss")
    organization: Identifier = Field(alias="sub")
    issued_at: Moment = Field(alias="iat")
    expires_at: Moment = Field(alias="exp")
    time_zone: Text = "UTC"


def read_report_pass(token: str, keys: VerifyingKeys, now: datetime) -> ReportPass:
    """The pass in a link to a report, while it lasts. TokenError for any other."""
    claims = verified(token, REPORT_TYPE, keys, REPORT_LIMIT)
    try:
        report_pass = ReportPass.model_validate(claims)
    except ValidationError:
        raise TokenError(Flaw.MALFORMED, "is signed, but is no link to a report") from None
    if now >= report_pass.expires_at:
        raise TokenError(Flaw.EXPIRED, "has expired; ask your vendor for a new one")
    return report_pass


def write_report_pass(report_pass: ReportPass, keys: SigningKeys) -> str:
    """Sign a pass with the issuer's key."""
    return sign(report_pass.model_dump(mode="json", by_alias=True), REPORT_TYPE, keys)
