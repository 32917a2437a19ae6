"""A lease: the service's signed word that a program may run until a time.

A lease is believed only if a key in the license file signed it, for this license, this session, and the
nonce of the request that it answers. So a fake server, or an old answer played again, is no answer at all.
"""

from dataclasses import dataclass

from licensing_client.errors import Flaw, TokenFault
from licensing_client.license import License
from licensing_client.tokens import LEASE_TYPE, verified


@dataclass(frozen=True, slots=True)
class Lease:
    """A genuine lease. Times are seconds since 1970 on the service's clock; `grace` is in seconds."""

    token: str
    session: str
    issued_at: int
    expires_at: int
    nonce: str
    features: tuple[str, ...]
    grace: int
    borrowed: bool
    overdraft: bool


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def read_lease(token: str, license: License) -> Lease:
    """A lease for this license, whichever its session and age. TokenFault for anything else."""
    claims = verified(token, LEASE_TYPE, license.lease_keys)
    if claims.get("iss") != "licensing" or claims.get("aud") != license.id:
        raise TokenFault(Flaw.FOREIGN, "is for another license")
    features = claims.get("features")
    if (
        not all(_whole(claims.get(name)) for name in ("iat", "exp", "grace"))
        or not all(isinstance(claims.get(name), str) for name in ("sub", "nonce"))
        or not all(isinstance(claims.get(name), bool) for name in ("borrowed", "overdraft"))
        or not isinstance(features, list)
        or not all(isinstance(feature, str) for feature in features)
    ):
        raise TokenFault(Flaw.MALFORMED, "is signed, but is no lease")
    return Lease(
        token=token,
        session=claims["sub"],
        issued_at=claims["iat"],
        expires_at=claims["exp"],
        nonce=claims["nonce"],
        features=tuple(features),
        grace=claims["grace"],
        borrowed=claims["borrowed"],
        overdraft=claims["overdraft"],
    )


def read_answer(token: str, license: License, session: str, nonce: str) -> Lease:
    """The lease that answers a request of this session with this nonce. TokenFault for anything else."""
    lease = read_lease(token, license)
    if lease.session != session:
        raise TokenFault(Flaw.FOREIGN, "is for another session")
    if lease.nonce != nonce:
        raise TokenFault(Flaw.FOREIGN, "answers another request")
    return lease
