"""A lease: the service's signed permission for a session to run until a time.

A lease is accepted only if a key in the license file signed it, for this license, this session and the request's
nonce. So a fake server or a replayed reply gains nothing.
"""

from dataclasses import dataclass

from licensing_client.errors import Flaw, TokenError
from licensing_client.license import License
from licensing_client.tokens import LEASE_TYPE, verified_claims


@dataclass(frozen=True, slots=True)
class Lease:
    """A verified lease. Times are seconds since 1970 on the service's clock.

    `offered`: the end that it will have once a heartbeat has confirmed it; None if there is nothing to confirm.
    """

    token: str
    session_id: str
    issued_at: int
    expires_at: int
    nonce: str
    features: tuple[str, ...]
    grace_seconds: int
    borrowed: bool
    overdraft: bool
    offered: int | None = None


def _is_whole_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def read_lease(token: str, license: License) -> Lease:
    """A lease for this license, for any session and of any age.

    Raises TokenError where the token is no such lease.
    """
    claims = verified_claims(token, LEASE_TYPE, license.lease_keys)
    if claims.get("iss") != "licensing" or claims.get("aud") != license.id:
        raise TokenError(Flaw.FOREIGN, "is for another license")
    features = claims.get("features")
    if (
        not all(_is_whole_number(claims.get(name)) for name in ("iat", "exp", "grace"))
        or not all(isinstance(claims.get(name), str) for name in ("sub", "nonce"))
        or not all(isinstance(claims.get(name), bool) for name in ("borrowed", "overdraft"))
        or not (claims.get("offered") is None or _is_whole_number(claims["offered"]))
        or not isinstance(features, list)
        or not all(isinstance(feature, str) for feature in features)
    ):
        raise TokenError(Flaw.MALFORMED, "is signed, but is no lease")
    return Lease(
        token=token,
        session_id=claims["sub"],
        issued_at=claims["iat"],
        expires_at=claims["exp"],
        nonce=claims["nonce"],
        features=tuple(features),
        grace_seconds=claims["grace"],
        borrowed=claims["borrowed"],
        overdraft=claims["overdraft"],
        offered=claims.get("offered"),
    )


def read_answering_lease(token: str, license: License, session_id: str, nonce: str) -> Lease:
    """The lease that answers this session's request with this nonce.

    Raises TokenError where the token is no such lease.
    """
    lease = read_lease(token, license)
    if lease.session_id != session_id:
        raise TokenError(Flaw.FOREIGN, "is for another session")
    if lease.nonce != nonce:
        raise TokenError(Flaw.FOREIGN, "answers another request")
    return lease
