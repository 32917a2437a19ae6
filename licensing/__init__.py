"""Floating seats and a register of use sessions that never learns who used the software."""
