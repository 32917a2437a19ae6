"""Take a seat of a floating license, keep it while a program runs, and give it back.

from licensing_client import Program, Seat

PROGRAM = Program(issuer_keys=("…43 characters…",), product="Fluidit Water")

with Seat(PROGRAM, "acme.lic"):
    run()
"""

from licensing_client.errors import ClientError, SeatRefused
from licensing_client.license import License, Program
from licensing_client.machine import Status
from licensing_client.reasons import Code, Reason
from licensing_client.seat import LicenseFile, Network, Seat, Standing

Fault = ClientError
"""The name of `ClientError` in earlier versions."""

__all__ = [
    "ClientError",
    "Code",
    "Fault",
    "License",
    "LicenseFile",
    "Network",
    "Program",
    "Reason",
    "Seat",
    "SeatRefused",
    "Standing",
    "Status",
]
