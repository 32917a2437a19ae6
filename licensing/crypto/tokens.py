"""License files, leases and report passes: signed texts (compact JWS, RFC 7515) of three types.

The rules, which hold before any content of a token is used:

- at most `LICENSE_LIMIT`, `LEASE_LIMIT` or `REPORT_LIMIT` characters;
- three parts in base64url without padding, each in its only valid spelling;
- a header of exactly `alg`, `kid` and `typ`; `alg` EdDSA and nothing else; the `typ` that the caller expects;
- a `kid` among the keys that the caller trusts for this type;
- a signature by that key over exactly this header and this payload. It is verified once: a set of keys knows the tokens
  that it has signed or verified last.

There is no algorithm to choose, so there is none to confuse. Why no JOSE library: docs/adr/0026.

A license file may gain claims, which old readers ignore. A claim never changes its meaning: a file that needs that gets
a new `typ`, which old readers refuse.

Each function that reads raises TokenError if a rule is broken, the content is malformed, or a report pass has expired.
Left to others: dates and everything else that a genuine license says (`licensing.rules`).
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from textwrap import wrap
from typing import Annotated, Any, Literal

from cryptography.exceptions import InvalidSignature
from pydantic import BaseModel, Field, ValidationError

from licensing.crypto.keys import SigningKeys, VerifyingKeys
from licensing.crypto.pseudonyms import base64url, from_base64url
from licensing.errors import Flaw, TokenError
from licensing.rules.license import Identifier, License, Moment, Seconds, Text

LICENSE_TYPE, LICENSE_LIMIT = "license+jwt", 12 * 1024
LEASE_TYPE, LEASE_LIMIT = "lease+jwt", LICENSE_LIMIT
REPORT_TYPE, REPORT_LIMIT = "report+jwt", 2 * 1024

LICENSE_FILE_LIMIT = 64 * 1024
"""Largest license file in bytes: the JWS and pages of comments."""
LINE_LIMIT = 76
"""Characters in a line of a license file: as many as mail leaves as they are (RFC 2045, section 6.7)."""


def sign(claims: Mapping[str, Any], typ: str, keys: SigningKeys, kid: str | None = None) -> str:
    """Sign claims with the one of `keys` that `kid` names, by default the current one."""
    return _signed(_json(claims), typ, keys, kid)


def _signed(payload: bytes, typ: str, keys: SigningKeys, kid: str | None) -> str:
    kid = kid or keys.kid
    content = f"{_header(kid, typ)}.{base64url(payload)}"
    token = f"{content}.{base64url(keys.private[kid].sign(content.encode()))}"
    keys.genuine.add(token)
    return token


def signed_by(token: str) -> str:
    """The id of the key that signed a token, which was verified before: nothing is checked here."""
    return str(_members(token.partition(".")[0])["kid"])


def verified(token: str, typ: str, keys: VerifyingKeys, limit: int) -> dict[str, Any]:
    """The claims of a genuine token of one type."""
    if len(token) > limit:
        raise TokenError(Flaw.OVERSIZE, f"is larger than {limit} characters")
    try:
        first, *others = token.split(".")
        payload, signature = map(from_base64url, others)
        header = _members(first)
        if not payload or not signature or not isinstance(header.get("kid", ""), str):
            raise ValueError
    except (ValueError, RecursionError):
        raise TokenError(Flaw.DAMAGED, "is damaged: it is not a signed text, or not a whole one") from None
    if header.get("alg") != "EdDSA" or header.keys() != {"alg", "kid", "typ"}:
        raise TokenError(Flaw.FORGED, "is forged: it is not signed in the way that genuine ones are")
    if header["typ"] != typ:
        raise TokenError(Flaw.WRONG_TYPE, f"is of another type than {typ}")
    key = keys.keys.get(header["kid"])
    if key is None:
        raise TokenError(Flaw.UNKNOWN_KEY, "is signed with a key that is not trusted here")
    if token not in keys.genuine:
        try:
            key.verify(signature, token.rpartition(".")[0].encode())
        except InvalidSignature:
            raise TokenError(Flaw.FORGED, "was altered after it was signed, or is forged") from None
        keys.genuine.add(token)
    try:
        return _object(payload)
    except (ValueError, RecursionError):
        raise TokenError(Flaw.MALFORMED, "is signed, but holds no claims") from None


def _object(data: bytes) -> dict[str, Any]:
    value = json.loads(data)
    if not isinstance(value, dict):
        raise ValueError("is no JSON object")
    return value


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


@lru_cache
def _header(kid: str, typ: str) -> str:
    return base64url(_json({"alg": "EdDSA", "kid": kid, "typ": typ}))


@lru_cache
def _members(header: str) -> Mapping[str, Any]:
    """What an encoded header holds; nearly all tokens share one."""
    return _object(from_base64url(header))


def license_bytes_text(file: bytes) -> str:
    """The JWS in the bytes of a license file. TokenError if they are too many, no UTF-8, or hold no whole JWS."""
    if len(file) > LICENSE_FILE_LIMIT:
        raise TokenError(Flaw.OVERSIZE, f"is larger than {LICENSE_FILE_LIMIT // 1024} KiB")
    try:
        return license_text(file.decode("utf-8"))
    except UnicodeDecodeError:
        raise TokenError(Flaw.DAMAGED, "is not a text file, or not one in UTF-8") from None


def license_text(file: str) -> str:
    """The JWS in the text of a license file: its lines that are no comments, joined (docs/protocol.md, section 4).

    Those lines must follow each other directly. A `=` at the end of one is a soft line break of quoted-printable.
    TokenError where there are none, or they do not follow each other.
    """
    lines = [line.removesuffix("\r").strip(" \t") for line in file.removeprefix("\ufeff").split("\n")]
    places = [place for place, line in enumerate(lines) if line and not line.startswith("#")]
    if not places:
        raise TokenError(Flaw.DAMAGED, "is damaged: there is no signed text in it")
    *folded, last = lines[places[0] : places[-1] + 1]
    if len(folded) + 1 != len(places):
        raise TokenError(
            Flaw.DAMAGED, "is damaged: a blank line or a comment interrupts the signed text, or text was added"
        )
    return "".join(line.removesuffix("=") for line in folded) + last


def license_file_text(token: str, comments: Sequence[str], *, one_line: bool = False) -> str:
    """The text of a license file in which `license_text` finds the token, below comments for people.

    No line has more than `LINE_LIMIT` characters, except the token's with `one_line`, for readers of the first edition.
    """
    width = len(token) if one_line else LINE_LIMIT
    lines = [line for comment in comments for line in _comment_lines(comment)]
    lines += [token[place : place + width] for place in range(0, len(token), width)]
    return "\n".join(lines) + "\n"


def _comment_lines(comment: str) -> list[str]:
    """A comment on lines that begin with `#`. All of its white space counts as spaces: some readers end lines at it."""
    wrapped = wrap(" ".join(comment.split()), LINE_LIMIT - 2, break_on_hyphens=False)
    return [f"# {line}" for line in wrapped] or ["#"]


def read_license(token: str, keys: VerifyingKeys) -> License:
    """The license in a genuine token, whatever its dates."""
    claims = verified(token, LICENSE_TYPE, keys, LICENSE_LIMIT)
    try:
        return License.model_validate(claims, by_alias=True, by_name=False)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        message = f"{where}: {first['msg']}" if where else first["msg"]
        raise TokenError(Flaw.MALFORMED, f"is signed, but contradicts itself ({message})") from None


def write_license(license: License, keys: SigningKeys) -> str:
    """Sign a license.

    Raises ValueError if the result is too large to be sent with a start.
    """
    token = sign(license.claims(), LICENSE_TYPE, keys)
    if len(token) > LICENSE_LIMIT:
        raise ValueError(
            f"the license would be {len(token)} characters long, {LICENSE_LIMIT} at most can be sent at a start: "
            "list fewer users or hosts, or issue several licenses"
        )
    return token


class Lease(BaseModel, frozen=True, extra="ignore", populate_by_name=True, strict=True):
    """Permission to run until `expires_at` (UTC, whole seconds).

    `offered` is until when the lease lasts that the next heartbeat gets; None in all leases but those of starts that
    borrow or are held. Where a field and its claim differ in name, the alias is the claim.
    """

    issuer: Literal["licensing"] = Field(default="licensing", alias="iss")
    session_id: Text = Field(alias="sub")
    license_id: Identifier = Field(alias="aud")
    issued_at: Moment = Field(alias="iat")
    expires_at: Moment = Field(alias="exp")
    nonce: Text
    features: Annotated[tuple[Text, ...], Field(strict=False)]
    grace_seconds: Seconds = Field(alias="grace")
    borrowed: bool
    overdraft: bool
    offered: Moment | None = None

    def claims(self) -> dict[str, Any]:
        """The claims as in the token: short names, NumericDates, plain JSON types."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    @property
    def borrowing_end(self) -> datetime | None:
        """Until when the seat is borrowed, or offered to be; None where it is not. UTC."""
        if self.offered is not None:
            return self.offered if self.offered > self.expires_at else None
        return self.expires_at if self.borrowed else None

    @property
    def grace_end(self) -> datetime:
        """Until when a program runs on without another answer, unless the lease itself ends later. UTC."""
        return self.issued_at + timedelta(seconds=self.grace_seconds)

    def latest(self, ran_until: datetime) -> datetime:
        """A time until which a program says that it ran, cut to what this lease allowed: its end and grace. UTC."""
        return min(ran_until, self.expires_at + timedelta(seconds=self.grace_seconds))


def read_lease(token: str, keys: VerifyingKeys) -> Lease:
    """The lease in a genuine token, also after it has expired: the register decides what it is worth then."""
    claims = verified(token, LEASE_TYPE, keys, LEASE_LIMIT)
    try:
        return Lease.model_validate(claims, by_alias=True, by_name=False)
    except ValidationError:
        raise TokenError(Flaw.MALFORMED, "is signed, but is no lease") from None


def write_lease(lease: Lease, keys: SigningKeys, kid: str | None = None) -> str:
    """Sign a lease with the lease key that `kid` names, by default the current one."""
    return _signed(lease.model_dump_json(by_alias=True, exclude_none=True).encode(), LEASE_TYPE, keys, kid)


class ReportPass(BaseModel, frozen=True, extra="ignore", populate_by_name=True, strict=True):
    """Permission to read one organization's usage until `expires_at`, signed by the vendor's issuer key."""

    issuer: Text = Field(alias="iss")
    organization_id: Identifier = Field(alias="sub")
    issued_at: Moment = Field(alias="iat")
    expires_at: Moment = Field(alias="exp")
    time_zone: Text = "UTC"


def read_report_pass(token: str, keys: VerifyingKeys, now: datetime) -> ReportPass:
    """The report pass in a genuine token that has not expired at `now`."""
    claims = verified(token, REPORT_TYPE, keys, REPORT_LIMIT)
    try:
        report_pass = ReportPass.model_validate(claims, by_alias=True, by_name=False)
    except ValidationError:
        raise TokenError(Flaw.MALFORMED, "is signed, but is no link to a report") from None
    if now >= report_pass.expires_at:
        raise TokenError(Flaw.EXPIRED, "has expired; ask your vendor for a new one")
    return report_pass


def write_report_pass(report_pass: ReportPass, keys: SigningKeys) -> str:
    """Sign a report pass with the issuer's key."""
    return sign(report_pass.model_dump(mode="json", by_alias=True), REPORT_TYPE, keys)
