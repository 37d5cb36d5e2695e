"""A secret of this machine's own, in a file: read it, or make it at first start.

Invariant: once a file stands, it never changes: what was made under it would be lost. So it is written whole
beside its place and then linked into it, which fails where a file stands already: a crash leaves no half, and of
two processes that start at once, one makes it and both read the same.
"""

import base64
import binascii
import os
import secrets
from pathlib import Path
from typing import Final, NamedTuple

from proxy.core.secret import Secret

SECRET_BYTES: Final = 32

_FILE_BYTES_MAX: Final = 1_024


class SecretFile(NamedTuple):
    """What stands in the file, and whether it was made just now."""

    text: Secret
    is_new: bool


def load_or_make(path: Path) -> SecretFile:
    """The file's text; where there is no file, base64 of 32 random bytes, which only its owner can read. Blocks on
    the disk: call it at start.

    Raises:
        OSError: the folder cannot be made, read or written.
    """
    is_new = False
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        is_new = _write_once(path, base64.b64encode(secrets.token_bytes(SECRET_BYTES)) + b"\n")
    with path.open("rb") as file:
        return SecretFile(Secret(file.read(_FILE_BYTES_MAX).decode("ascii", "replace").strip()), is_new)


def secret_bytes(secret: Secret, what: str) -> bytes:
    """The 32 bytes behind a secret's base64. `what`: how the message calls it, "A pepper".

    Raises:
        ValueError: not base64, or not of 32 bytes. The message does not show it.
    """
    try:
        raw = base64.b64decode(secret.reveal(), validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != SECRET_BYTES:
        raise ValueError(f"{what} is base64 of {SECRET_BYTES} bytes (openssl rand -base64 {SECRET_BYTES}).")
    return raw


def _write_once(path: Path, content: bytes) -> bool:
    """Put a file in its place, unless another process was first: then that one's holds, and this is False."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return False
    finally:
        draft.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return True
