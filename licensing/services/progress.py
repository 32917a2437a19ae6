"""Progress of long work."""

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Is given how many licenses of how many are done, or other steps where the work is not by license."""


def no_progress(done: int, of: int) -> None:
    """Report to nobody."""
