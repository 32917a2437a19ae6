"""Why a program may not run, or not for long: a stable code for programs, a sentence for people.

A code that the service also uses has the same meaning there (docs/protocol.md).
"""

from dataclasses import dataclass
from enum import Enum


class Code(str, Enum):
    """All reasons. A value never changes its meaning."""

    LICENSE_MISSING = "license-missing"
    LICENSE_MALFORMED = "license-malformed"
    LICENSE_INVALID = "license-invalid"
    LICENSE_NOT_YET_VALID = "license-not-yet-valid"
    LICENSE_EXPIRED = "license-expired"
    LICENSE_SUSPENDED = "license-suspended"
    LICENSE_SUPERSEDED = "license-superseded"
    PRODUCT_NOT_LICENSED = "product-not-licensed"
    FEATURE_NOT_LICENSED = "feature-not-licensed"
    MAINTENANCE_OVER = "maintenance-over"
    USER_NOT_ALLOWED = "user-not-allowed"
    HOST_NOT_ALLOWED = "host-not-allowed"
    NETWORK_NOT_ALLOWED = "network-not-allowed"
    SEAT_RECALLED = "seat-recalled"
    NO_SEAT = "no-seat-available"
    NO_ANSWER = "no-answer"
    GRACE_OVER = "grace-over"
    BORROWING_NOT_ALLOWED = "borrowing-not-allowed"
    CANNOT_OPEN = "cannot-open"
    GIVEN_BACK = "given-back"


REFUSALS = frozenset(
    {
        Code.LICENSE_NOT_YET_VALID,
        Code.LICENSE_EXPIRED,
        Code.LICENSE_SUSPENDED,
        Code.LICENSE_SUPERSEDED,
        Code.USER_NOT_ALLOWED,
        Code.HOST_NOT_ALLOWED,
        Code.NETWORK_NOT_ALLOWED,
        Code.SEAT_RECALLED,
    }
)
"""The refusals of the service, which it answers with 403."""

_MESSAGES = {
    Code.LICENSE_MISSING: "The license file cannot be read. Check its place and its permissions.",
    Code.LICENSE_MALFORMED: "The license file is damaged. Ask for a new copy, and do not edit it.",
    Code.LICENSE_INVALID: "The license file is not genuine. Use the file as the vendor sent it.",
    Code.LICENSE_NOT_YET_VALID: "The license is not valid yet. Check its first day and this computer's date.",
    Code.LICENSE_EXPIRED: "The license has expired. Ask your license administrator to renew it.",
    Code.LICENSE_SUSPENDED: "The license is suspended. Ask your license administrator to contact the vendor.",
    Code.LICENSE_SUPERSEDED: "A newer license file replaces this one. Ask your license administrator for it.",
    Code.PRODUCT_NOT_LICENSED: "The license file is for another program.",
    Code.FEATURE_NOT_LICENSED: "The license does not cover this edition of the program.",
    Code.MAINTENANCE_OVER: "This version was made after the license's maintenance had ended. "
    "Renew the maintenance, or use an older version.",
    Code.USER_NOT_ALLOWED: "The license is bound to named users, and you are not among them.",
    Code.HOST_NOT_ALLOWED: "The license is bound to certain computers, and this is not one of them.",
    Code.NETWORK_NOT_ALLOWED: "The license may not be used from this network.",
    Code.SEAT_RECALLED: "Your license administrator needs this seat. Save your work and close the program.",
    Code.NO_SEAT: "All seats are taken. Try again when a colleague has finished.",
    Code.NO_ANSWER: "The license service cannot be reached.",
    Code.GRACE_OVER: "The license service could not be reached for too long. Connect to the network.",
    Code.BORROWING_NOT_ALLOWED: "Seats of this license cannot be borrowed.",
    Code.CANNOT_OPEN: "The license cannot be used on this computer, for a reason that is in the program's log. "
    "Ask whoever looks after the computer or the program.",
    Code.GIVEN_BACK: "Nobody worked here while others waited, so the seat was given back. "
    "When you go on working, you wait in line for another.",
}


@dataclass(frozen=True, slots=True)
class Reason:
    """A code, and a message for people: what happened and what to do."""

    code: Code
    message: str


def reason(code: Code, more: str = "") -> Reason:
    """The reason for a code. `more` is a sentence after the usual message."""
    return Reason(code, f"{_MESSAGES[code]} {more}".rstrip())
