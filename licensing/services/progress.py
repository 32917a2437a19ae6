"""Progress of long work."""

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Called with the number of licenses or other steps that are done, and their total."""


def no_progress(done: int, total: int) -> None:
    """Report nothing."""
