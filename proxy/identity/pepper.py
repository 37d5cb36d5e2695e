"""The pepper that virtual keys are digested under: read it, or make it at first start."""

import logging
from pathlib import Path

from proxy.adapters.secret_file import load_or_make, secret_bytes
from proxy.core.secret import Secret

PEPPER_FILE = "pepper"

_log = logging.getLogger("tollway.identity")


def load_or_make_pepper(folder: Path) -> Secret:
    """The state folder's own pepper, as base64 of 32 bytes. Blocks on the disk: call it at start.

    Raises:
        OSError: the folder cannot be made, read or written.
        ValueError: the file holds something else than a pepper.
    """
    path = folder / PEPPER_FILE
    found = load_or_make(path)
    try:
        pepper_bytes(found.text)
    except ValueError as error:
        raise ValueError(f"{path}: {error} Restore it from a backup: the virtual keys were issued under it.") from None
    if found.is_new:
        _log.warning(
            "made %s, the pepper under which virtual keys are issued and looked up. Back it up: with another one, "
            "every key that was issued is unknown. Gateways of one state need the same: [auth] peppers names it.",
            path.absolute(),
        )
    return found.text


def pepper_bytes(pepper: Secret) -> bytes:
    """The 32 bytes behind a pepper's base64.

    Raises:
        ValueError: not base64, or not of 32 bytes. The message does not show it.
    """
    return secret_bytes(pepper, "A pepper")
