"""The pepper that virtual keys are digested under: read it, or make it at first start.

Invariant: once a file stands, it never changes: with another pepper every virtual key that
was issued would be unknown. So it is written whole beside its place and then linked into it,
which fails where a file stands already: a crash leaves no half, and of two processes that
start at once, one makes it and both read the same.
"""

import base64
import binascii
import os
import secrets
from pathlib import Path

from proxy.core.secret import Secret

PEPPER_BYTES = 32
PEPPER_FILE = "pepper"

_FILE_BYTES_MAX = 1_024


def load_or_make_pepper(folder: Path) -> Secret:
    """The state folder's own pepper, as base64 of 32 bytes. Blocks on the disk: call it at start.

    Raises:
        OSError: the folder cannot be made, read or written.
        ValueError: the file holds something else than a pepper.
    """
    path = folder / PEPPER_FILE
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _write_once(path, base64.b64encode(secrets.token_bytes(PEPPER_BYTES)) + b"\n")
    with path.open("rb") as file:
        pepper = Secret(file.read(_FILE_BYTES_MAX).decode("ascii", "replace").strip())
    try:
        pepper_bytes(pepper)
    except ValueError as error:
        raise ValueError(f"{path}: {error} Restore it from a backup: the virtual keys were issued under it.") from None
    return pepper


def pepper_bytes(pepper: Secret) -> bytes:
    """The 32 bytes behind a pepper's base64.

    Raises:
        ValueError: not base64, or not of 32 bytes. The message does not show it.
    """
    try:
        raw = base64.b64decode(pepper.reveal(), validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != PEPPER_BYTES:
        raise ValueError(f"A pepper is base64 of {PEPPER_BYTES} bytes (openssl rand -base64 {PEPPER_BYTES}).")
    return raw


def _write_once(path: Path, content: bytes) -> None:
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
            return  # another process was first: its pepper holds
    finally:
        draft.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
