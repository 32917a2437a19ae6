"""Floating seats and a register of use sessions that never learns who used the software."""

__version__ = "0.1.0"
