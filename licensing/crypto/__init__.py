"""Signed tokens and keyed hashes."""
