"""Files that commands write: whole or not at all."""

import errno
import os
import secrets
from pathlib import Path
from typing import Final

PRIVATE: Final = 0o600
"""The mode of a file that only its owner reads."""


DRAFTS: Final = ".*.json." + "[0-9a-f]" * 8
"""What `write_whole` leaves of a JSON file if the process is killed."""


def write_whole(file: Path, text: str, *, private: bool = False, overwrite: bool = True) -> None:
    """Write a text as UTF-8 in place of what the file held; a `private` file is its owner's from the first byte on.

    Other files keep the mode that they have. Where there is no regular file to replace, as with a pipe, the text is
    written into what is there. Raises OSError, and then the file is as it was; without `overwrite`, FileExistsError if
    there is one.
    """
    if file.exists() and not file.is_file():  # asked before links are followed: that of /dev/stdout leads nowhere
        file.write_bytes(text.encode())
        return
    target = file.resolve()  # a link stays, and the file that it names is replaced
    mode = PRIVATE if private else target.stat().st_mode & 0o777 if target.exists() else 0o666
    draft = _draft_of(target)
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as out:
            out.write(text.encode())
            if private:  # a key or a salt that is lost with the power is lost for good
                out.flush()
                os.fsync(out.fileno())
        if overwrite:
            draft.replace(target)
        else:
            _move_to_free_name(draft, target)
    finally:
        draft.unlink(missing_ok=True)


def check_writable(file: Path) -> None:
    """Raise OSError if `write_whole` could not write a file there for another reason than a lack of space."""
    if file.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(file))
    if not file.exists() or file.is_file():
        draft = _draft_of(file.resolve())
        os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE))
        draft.unlink()


def _draft_of(target: Path) -> Path:
    return target.with_name(f".{target.name}.{secrets.token_hex(4)}")


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
