"""Edits one member of a JSON text and leaves every other byte as it was sent.

Pure. The text is known to be one valid JSON object (RFC 8259): it was parsed before. Both
functions prove most answers by counting bytes; only where that proves nothing does a scanner
walk the text's strings and brackets.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

from proxy.core import jsonio

_STRING: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_SPACE: Final = rb"[ \t\n\r]*+"
# A string, with its colon where it names a member, or one bracket.
_TOKEN: Final = re.compile(rb"(" + _STRING + rb")(?:" + _SPACE + rb"(:))?+|([\[{])|[\]}]", re.DOTALL)
_NAME: Final = 2  # Match.lastindex of a string with a colon,
_VALUE: Final = 1  # of a string without one,
_OPENING: Final = 3  # of an opening bracket; None for a closing one
_STRING_VALUE: Final = re.compile(_SPACE + rb"(" + _STRING + rb")", re.DOTALL)
_ESCAPED_ASCII: Final = re.compile(rb"\\u00[2-7]")


def may_hide_names(raw: bytes) -> bool:
    """True where an escape could spell an ASCII letter, so that a search for a name's plain
    bytes proves nothing: `"mod\\u0065l"` is `"model"` too."""
    return b"\\u00" in raw and _ESCAPED_ASCII.search(raw) is not None


def duplicates(raw: bytes, document: Mapping[str, Any], names: Iterable[str]) -> str | None:
    """The first of these names that stands twice at the top level of the text.

    `document` is the text, parsed; the names hold ASCII letters and underscores alone.
    """
    present = [name for name in names if name in document]
    if not present:
        return None
    # A member that exists and whose name occurs once in the whole text is unique.
    doubtful = present if may_hide_names(raw) else [name for name in present if not _occurs_once(raw, name)]
    if not doubtful:
        return None
    seen: set[str] = set()
    twice: set[str] = set()
    for name, _ in _top_level_members(raw):
        (twice if name in seen else seen).add(name)
    return next((name for name in doubtful if name in twice), None)


def replace_string(raw: bytes, name: str, new_value: str) -> bytes:
    """The text with another value for the string member `name` of its top level.

    `name` must be a member of the parsed text, in ASCII letters and underscores. Where it
    stands twice, which `duplicates` finds, all of its values are replaced.

    Raises:
        ValueError: the text has no such member, or its value is not a string.
    """
    if _occurs_once(raw, name) and not may_hide_names(raw):
        found = _name_pattern(name).search(raw)
        value_offsets = [found.end()] if found is not None else []
    else:
        value_offsets = [offset for known, offset in _top_level_members(raw) if known == name]
    if not value_offsets:
        raise ValueError(f"the text has no member {name!r} at its top level")
    encoded = jsonio.encode(new_value)
    pieces: list[bytes] = []
    kept_until = 0
    for offset in value_offsets:
        value = _STRING_VALUE.match(raw, offset)
        if value is None:
            raise ValueError(f"the member {name!r} is not a string")
        pieces += (raw[kept_until : value.start(1)], encoded)
        kept_until = value.end(1)
    pieces.append(raw[kept_until:])
    return b"".join(pieces)


def object_end(raw: bytes, start: int) -> int | None:
    """The offset just behind the object or array that opens at `start`; None if it does not end."""
    depth = 0
    for token in _TOKEN.finditer(raw, start):
        if token.lastindex == _OPENING:
            depth += 1
        elif token.lastindex is None:
            depth -= 1
            if depth <= 0:
                return token.end()
    return None


def _top_level_members(raw: bytes) -> Iterator[tuple[str, int]]:
    """Each member's name, decoded, and the offset behind its colon."""
    depth = 0
    for token in _TOKEN.finditer(raw):
        kind = token.lastindex
        if kind == _NAME:
            if depth == 1:
                yield jsonio.parse(token.group(1)), token.end()
        elif kind == _OPENING:
            depth += 1
        elif kind != _VALUE:
            depth -= 1


def _occurs_once(raw: bytes, name: str) -> bool:
    # Many texts hold `"role":"user"`: where the plain count fails, the colon tells a name from a value.
    return raw.count(_quoted(name)) == 1 or sum(1 for _ in _name_pattern(name).finditer(raw)) == 1


@lru_cache(maxsize=64)
def _name_pattern(name: str) -> re.Pattern[bytes]:
    return re.compile(_quoted(name) + _SPACE + rb":")


def _quoted(name: str) -> bytes:
    return b'"' + name.encode() + b'"'
