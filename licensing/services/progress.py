"""How far long work has come, told to whoever watches."""

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Is told how many licenses of how many are done, or other steps where work is not of one kind."""


def no_progress(done: int, of: int) -> None:
    """Nobody watches."""
