"""A kept answer, and its stored form; the one place that reads and writes it.

Pure. Byte by byte:

    4    magic "TWCA"        1   format, 1          1   flags: 1 compressed, 2 sealed
    8    asked_at_ms         8   cost_nusd + 1, or 0: not known
    2+n  the alias           …   content

What stands before the content is in the clear, so that entries can be listed and purged by model and age without
opening them; a sealer authenticates it. The content, once opened and decompressed:

    32   check: BLAKE2b of what the fingerprint was made of      4+n  the rest of the answer's words, as JSON
    …    the body

What is read may have been written by anybody: whatever could not have been kept here is unreadable.
"""

import re
import zlib
from typing import Any, Final, NamedTuple

from proxy.core import jsonio
from proxy.core.errors import InvalidJson
from proxy.core.types import Headers, KeySource

MAGIC: Final = b"TWCA"
FORMAT: Final = 1
CHECK_BYTES: Final = 32
HEAD_BYTES_MAX: Final = 24 + 1_024  # an alias has at most 256 characters
KEPT_HEADERS: Final = frozenset({b"content-type", b"content-encoding"})
"""Of an answer's headers, those that describe its body."""

_COMPRESSED: Final = 1
_SEALED: Final = 2
_FIXED_BYTES: Final = 24
_LEVEL: Final = 1  # of zlib: half of text is saved at 100 MB/s, and the next levels save little more
_WORTH_BYTES: Final = 256
_WORDS_BYTES_MAX: Final = 65_536  # with the check before them
_SEAL_BYTES_MAX: Final = 1_024  # what sealing adds
_ASKED_AT_MS_MAX: Final = 253_402_300_799_999  # the end of the year 9999
_COST_NUSD_MAX: Final = (1 << 53) - 1
_NAME_CHARACTERS_MAX: Final = 1_024  # of a deployment's label, a provider or a model
_UNCLEAN: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")  # of what no header's value holds
_KEY_SOURCES: Final = frozenset(KeySource)


class EntryUnreadable(Exception):
    """These bytes are no entry, or not of this format."""


class EntryHead(NamedTuple):
    """What is known of an entry without opening it."""

    alias: str  # the model that the call named; "" for none
    asked_at_ms: int  # since the Unix epoch: when the provider was asked
    cost_nusd: int | None  # what its answer cost, and each replay saves; None: not known


class CacheEntry(NamedTuple):
    """One kept answer."""

    head: EntryHead
    check: bytes
    headers: Headers  # of the answer: those that describe its body
    body: bytes
    deployment: str  # who answered: its label
    provider: str
    served_model: str | None
    key_source: str

    @property
    def size_bytes(self) -> int:
        """What it takes in memory, roughly."""
        return len(self.body) + sum(len(name) + len(value) for name, value in self.headers) + 1_024


class Stored(NamedTuple):
    """An entry's stored form, in its parts."""

    head: EntryHead
    clear: bytes  # the head as it is stored: what a sealer authenticates
    content: bytes
    is_sealed: bool
    is_compressed: bool


def stored_bytes_max(body_bytes_max: int) -> int:
    """How long the stored form of an answer can be whose body is no longer than this."""
    return HEAD_BYTES_MAX + _WORDS_BYTES_MAX + body_bytes_max + _SEAL_BYTES_MAX


def pack(entry: CacheEntry, *, sealed: bool) -> tuple[bytes, bytes]:
    """The head as it is stored, and the content, compressed where that is worth it. Where the head says `sealed`,
    the content is the caller's to seal; the stored form is the one behind the other."""
    words = jsonio.encode(
        {
            "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in entry.headers],
            "deployment": entry.deployment,
            "provider": entry.provider,
            "served_model": entry.served_model,
            "key_source": entry.key_source,
        }
    )
    content = b"".join((entry.check, len(words).to_bytes(4, "big"), words, entry.body))
    flags = _SEALED if sealed else 0
    if len(content) >= _WORTH_BYTES:
        packed = zlib.compress(content, _LEVEL)
        if len(packed) < len(content):
            content, flags = packed, flags | _COMPRESSED
    return _encode_head(entry.head, flags), content


def head_of(data: bytes) -> EntryHead:
    """The head; `data` may end behind it. Raises EntryUnreadable."""
    return parse(data).head


def parse(data: bytes) -> Stored:
    """The parts of a stored form. Raises EntryUnreadable."""
    if len(data) < _FIXED_BYTES or data[:4] != MAGIC or data[4] != FORMAT or data[5] & ~(_COMPRESSED | _SEALED):
        raise EntryUnreadable
    asked_at_ms, cost = int.from_bytes(data[6:14], "big"), int.from_bytes(data[14:22], "big")
    ends = _FIXED_BYTES + int.from_bytes(data[22:24], "big")
    if asked_at_ms > _ASKED_AT_MS_MAX or cost > _COST_NUSD_MAX + 1 or not ends <= min(len(data), HEAD_BYTES_MAX):
        raise EntryUnreadable
    try:
        alias = data[_FIXED_BYTES:ends].decode()
    except UnicodeDecodeError:
        raise EntryUnreadable from None
    head = EntryHead(alias, asked_at_ms, cost - 1 if cost else None)
    return Stored(head, data[:ends], data[ends:], bool(data[5] & _SEALED), bool(data[5] & _COMPRESSED))


def unpack(stored: Stored, content: bytes, body_bytes_max: int) -> CacheEntry:
    """The entry, from its content as it was before it was sealed. Raises EntryUnreadable."""
    if stored.is_compressed:
        content = _inflate(content, body_bytes_max + _WORDS_BYTES_MAX)
    words_end = CHECK_BYTES + 4 + int.from_bytes(content[CHECK_BYTES : CHECK_BYTES + 4], "big")
    if not words_end <= min(len(content), _WORDS_BYTES_MAX) or len(content) - words_end > body_bytes_max:
        raise EntryUnreadable
    try:
        words: Any = jsonio.parse(content[CHECK_BYTES + 4 : words_end])
        entry = CacheEntry(
            stored.head,
            content[:CHECK_BYTES],
            tuple((name.encode("latin-1"), value.encode("latin-1")) for name, value in words["headers"]),
            content[words_end:],
            _name(words["deployment"]),
            _name(words["provider"]),
            None if words["served_model"] is None else _name(words["served_model"]),
            words["key_source"],
        )
        if entry.key_source not in _KEY_SOURCES or not _are_kept(entry.headers):
            raise EntryUnreadable
    except (InvalidJson, KeyError, TypeError, ValueError, AttributeError):
        raise EntryUnreadable from None
    return entry


def _name(word: object) -> str:
    if not isinstance(word, str) or len(word) > _NAME_CHARACTERS_MAX:
        raise EntryUnreadable
    return word


def _are_kept(headers: Headers) -> bool:
    """Each describes the body, stands once, and can be said."""
    names = {name for name, _ in headers}
    return (
        len(names) == len(headers)
        and names <= KEPT_HEADERS
        and not any(_UNCLEAN.search(value) is not None for _, value in headers)
    )


def _encode_head(head: EntryHead, flags: int) -> bytes:
    alias = head.alias.encode(errors="replace")
    cost = 0 if head.cost_nusd is None else head.cost_nusd + 1
    fixed = MAGIC + bytes((FORMAT, flags)) + head.asked_at_ms.to_bytes(8, "big") + cost.to_bytes(8, "big")
    return fixed + len(alias).to_bytes(2, "big") + alias


def _inflate(content: bytes, bytes_max: int) -> bytes:
    inflater = zlib.decompressobj()
    try:
        plain = inflater.decompress(content, bytes_max)
    except zlib.error:
        raise EntryUnreadable from None
    if not inflater.eof:
        raise EntryUnreadable
    return plain
