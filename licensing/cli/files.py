"""Files that commands write: whole or not at all."""

import errno
import os
import secrets
from pathlib import Path
from typing import Final

PRIVATE: Final = 0o600
"""The mode of a file that only its owner reads."""


def write_whole(file: Path, text: str, *, private: bool = False, overwrite: bool = True) -> None:
    """Write a text as UTF-8 in place of what the file held; a `private` file is its owner's from the first byte on.

    Other files keep the mode that they have. Where there is no regular file to replace, as with a pipe, the text is
    written into what is there. Raises OSError, and then the file is as it was; without `overwrite`, FileExistsError if
    there is one.
    """
    target = file.resolve()  # a link stays, and the file that it names is replaced
    if target.exists() and not target.is_file():
        target.write_bytes(text.encode())
        return
    mode = PRIVATE if private else target.stat().st_mode & 0o777 if target.exists() else 0o666
    draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as out:
            out.write(text.encode())
        if overwrite:
            draft.replace(target)
        else:
            _move_to_free_name(draft, target)
    finally:
        draft.unlink(missing_ok=True)


def _move_to_free_name(draft: Path, target: Path) -> None:
    """Rename a file, unless there is one of that name. A link fails if there is, a rename would replace it."""
    try:
        os.link(draft, target)
    except FileExistsError:
        raise
    except OSError as error:  # a file system without links
        if target.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from error
        draft.replace(target)
