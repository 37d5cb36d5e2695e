"""Secrets that are looked for wherever a gateway leaves or says something.

A canary is a secret of a test's own. It is found whole, in any piece of eight of its random characters, in base64 at
any offset, in hexadecimal, percent-encoded, and in compressed files of their kind. `TRACES` needs no list: it knows
what the suite's provider keys and virtual keys look like.
"""

import base64
import binascii
import re
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path

PIECE_CHARACTERS = 8
OWN_FILES = frozenset({"pepper", "kek"})  # they are secrets, and readable by their owner alone
TRACES = re.compile(rb"\bsk-[A-Za-z0-9][A-Za-z0-9_-]{7,}|\btwk_[0-9A-Za-z]{49}\b")

_RUNS = re.compile(rb"[A-Za-z0-9+/=_%-]{8,}")  # no secret, however it is written, is made of anything else


class Canaries:
    """The secrets of one test, by name."""

    def __init__(self) -> None:
        self._needles: dict[bytes, str] = {}

    def provider_key(self, name: str) -> str:
        """A new one."""
        secret = secrets.token_hex(20)
        self.know(name, secret)
        return f"sk-{secret}"

    def know(self, name: str, secret: str) -> str:
        """Look for this one, too."""
        random = secret.removeprefix("twk_").encode()
        pieces = {random[at : at + PIECE_CHARACTERS] for at in range(len(random) - PIECE_CHARACTERS + 1)}
        for needle in (*pieces, *_encoded(random)):
            self._needles[needle] = name
        return secret

    def found_in(self, data: bytes) -> set[str]:
        """The names of those that these bytes hold."""
        runs = b"\n".join(set(_RUNS.findall(data)))  # each once: much is said again and again
        return {name for needle, name in self._needles.items() if needle in runs}

    def found(self, places: Mapping[str, bytes]) -> dict[str, set[str]]:
        """Likewise, by place; a place that holds none is left out."""
        hits = {place: self.found_in(data) for place, data in places.items()}
        return {place: names for place, names in hits.items() if names}


def _encoded(secret: bytes) -> Iterable[bytes]:
    yield binascii.hexlify(secret)
    yield binascii.hexlify(secret).upper()
    for offset in range(3):  # where in its three bytes the secret begins; what its neighbours decide is cut off
        text = base64.b64encode(bytes(offset) + secret)
        yield text[4 : len(text) - 4]
        yield base64.urlsafe_b64encode(bytes(offset) + secret)[4 : len(text) - 4]
    yield b"".join(b"%%%02X" % byte for byte in secret)


def files_of(folder: Path) -> dict[str, bytes]:
    """Everything that stands in a folder, by path; the files that are secrets themselves are left out."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in OWN_FILES
    }
