"""Files that commands write: whole or not at all."""

import os
import secrets
from pathlib import Path
from typing import Final

PRIVATE: Final = 0o600
"""The mode of a file that only its owner reads."""


def write_whole(file: Path, text: str, *, private: bool = False) -> None:
    """Write a text as UTF-8 in place of what the file held; a `private` file is its owner's from the first byte on.

    Other files keep the mode that they have. Where there is no regular file to replace, as with a pipe, the text is
    written into what is there. Raises OSError, and then the file is as it was.
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
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
