"""Edits one member of a JSON object's text and leaves every other byte as it was sent.

Pure. The text is known to be one valid JSON object (RFC 8259): it was parsed before. Most
answers are proven by one search of its bytes; only where that proves nothing does a scanner
go over the text's strings and brackets.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

from proxy.core import jsonio

_STRING: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_SPACE_BYTES: Final = b" \t\n\r"
_SPACE: Final = rb"[ \t\n\r]*+"
# A string, with its colon where it names a member, or one bracket.
_TOKEN: Final = re.compile(rb"(" + _STRING + rb")(?:" + _SPACE + rb"(:))?+|([\[{])|[\]}]", re.DOTALL)
_NAME: Final = 2  # Match.lastindex of a string with a colon,
_VALUE: Final = 1  # of a string without one,
_OPENING: Final = 3  # of an opening bracket; None for a closing one
_STRING_VALUE: Final = re.compile(_SPACE + rb"(" + _STRING + rb")", re.DOTALL)
_SPACES: Final = re.compile(_SPACE)
_COLON: Final = re.compile(_SPACE + rb":")
_SCALAR: Final = re.compile(_STRING + rb"|[^\s,}\]]++", re.DOTALL)  # a string, a number or a word
# Of what an escape can spell only letters and `_` matter; Go's encoder escapes `<`, `>` and `&`.
_ESCAPED_LETTER: Final = re.compile(rb"\\u00[4-7]")
_STRING_AND_COLON: Final = re.compile(_STRING + _SPACE + rb"(:?)", re.DOTALL)


def may_hide_names(raw: bytes) -> bool:
    """True where an escape could spell an ASCII letter, so that a search for a name's plain
    bytes proves nothing: `"mod\\u0065l"` is `"model"` too."""
    return b"\\" in raw and _ESCAPED_LETTER.search(raw) is not None


def duplicates(raw: bytes, document: Mapping[str, Any], names: Iterable[str]) -> str | None:
    """The first of these names that stands twice at the top level of the text.

    `document` is the text, parsed; the names hold ASCII letters and underscores alone.
    """
    doubtful = names = tuple(names)
    if b"\\" not in raw or not may_hide_names(raw):
        # A name that stands once in the whole text cannot stand twice at its top level.
        found: list[bytes] = _names_pattern(names).findall(raw)
        if len(found) == len(set(found)):
            return None
        doubtful = tuple(name for name in names if found.count(name.encode()) > 1)
    doubtful = tuple(name for name in doubtful if name in document)
    if not doubtful:
        return None
    seen: set[str] = set()
    twice: set[str] = set()
    for name, _, _ in _top_level_members(raw):
        (twice if name in seen else seen).add(name)
    return next((name for name in doubtful if name in twice), None)


def replace_string(raw: bytes, name: str, new_value: str) -> bytes:
    """The text with another value for the string member `name` of its top level.

    `name` must be a member of the parsed text, in ASCII letters and underscores. Where it
    stands twice, which `duplicates` finds, all of its values are replaced.

    Raises:
        ValueError: the text has no such member, or its value is not a string.
    """
    encoded = jsonio.encode(new_value)
    values: list[tuple[int, int]] = []
    for offset in _value_offsets(raw, name):
        value = _STRING_VALUE.match(raw, offset)
        if value is None:
            raise ValueError(f"the member {name!r} is not a string")
        values.append(value.span(1))
    return _replaced(raw, [(start, end, encoded) for start, end in values])


def set_member(raw: bytes, document: Mapping[str, Any], name: str, new_value: bytes) -> bytes:
    """The text with this JSON value for the member `name` of its top level: in place of the
    value that it has, else as its first member.

    `document` is the text, parsed. A name that stands twice gets the value twice.
    """
    if name in document:
        return edit_member(raw, name, lambda _: new_value)
    start = raw.index(b"{") + 1
    comma = b"," if document else b""
    return b'%b"%b":%b%b%b' % (raw[:start], name.encode(), new_value, comma, raw[start:])


def edit_member(raw: bytes, name: str, edit: Callable[[bytes], bytes]) -> bytes:
    """The text with the value of the member `name` of its top level edited: `edit` gets the
    value's own bytes. As for `replace_string`, `name` must be a member of the parsed text."""
    edits: list[tuple[int, int, bytes]] = []
    for offset in _value_offsets(raw, name):
        start, end = _value_span(raw, offset)
        edits.append((start, end, edit(raw[start:end])))
    return _replaced(raw, edits)


def member_span(raw: bytes, name: str) -> tuple[int, int] | None:
    """What to cut out so that the top level never had the member `name`: from where to where.

    The comma before it goes with it, and the space around that comma; where it is the first,
    the comma behind it. None: there is no such member. Where it stands twice, the last.
    """
    found: tuple[int, int] | None = None
    for known, name_start, offset in _top_level_members(raw):
        if known == name:
            found = name_start, _value_span(raw, offset)[1]
    if found is None:
        return None
    start, end = found
    before = len(raw[:start].rstrip(_SPACE_BYTES))
    if raw[before - 1 : before] == b",":
        return len(raw[: before - 1].rstrip(_SPACE_BYTES)), end
    behind = _space_end(raw, end)
    if raw[behind : behind + 1] == b",":
        return start, _space_end(raw, behind + 1)
    return start, end


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


def count_members(raw: bytes) -> int:
    """How many members all objects of the text have together, those that stand twice counted
    twice. A parser keeps one of these: if it shows fewer, the text holds something else too."""
    colons: list[bytes] = _STRING_AND_COLON.findall(raw)
    return colons.count(b":")


def _value_offsets(raw: bytes, name: str) -> list[int]:
    """Where the values of this member begin, or the space before them. Raises ValueError."""
    quoted = f'"{name}"'.encode()
    begins = raw.find(quoted)
    if begins >= 0 and raw.find(quoted, begins + 1) < 0 and not may_hide_names(raw):
        # What stands once in the whole text is the member, and no value that reads like its name.
        colon = _COLON.match(raw, begins + len(quoted))
        if colon is not None:
            return [colon.end()]
    offsets = [offset for known, _, offset in _top_level_members(raw) if known == name]
    if not offsets:
        raise ValueError(f"the text has no member {name!r} at its top level")
    return offsets


def _value_span(raw: bytes, offset: int) -> tuple[int, int]:
    """From where to where the value goes that begins here, or behind the space here."""
    start = _space_end(raw, offset)
    scalar = None if raw[start] in b"{[" else _SCALAR.match(raw, start)
    end = object_end(raw, start) if scalar is None else scalar.end()
    assert end is not None, "the text is valid JSON"
    return start, end


def _space_end(raw: bytes, offset: int) -> int:
    space = _SPACES.match(raw, offset)
    assert space is not None, "the pattern matches nothing too"
    return space.end()


def _replaced(raw: bytes, edits: Iterable[tuple[int, int, bytes]]) -> bytes:
    """The text with each (start, end, new bytes) applied; they are in order and apart."""
    pieces: list[bytes] = []
    kept_until = 0
    for start, end, new in edits:
        pieces += (raw[kept_until:start], new)
        kept_until = end
    pieces.append(raw[kept_until:])
    return b"".join(pieces)


def _top_level_members(raw: bytes) -> Iterator[tuple[str, int, int]]:
    """Each member's name, decoded, the offset of that name and the one behind its colon."""
    depth = 0
    for token in _TOKEN.finditer(raw):
        kind = token.lastindex
        if kind == _NAME:
            if depth == 1:
                yield jsonio.parse(token.group(1)), token.start(), token.end()
        elif kind == _OPENING:
            depth += 1
        elif kind != _VALUE:
            depth -= 1


@lru_cache(maxsize=64)
def _names_pattern(names: tuple[str, ...]) -> re.Pattern[bytes]:
    """The plain spelling of any of these names, as a member of some object."""
    # One pass of the regex engine costs less than one substring search: it begins with a quote.
    # Where no name has the letter behind it, or its first letter is another's, none is compared.
    by_letter: dict[str, list[str]] = {}
    for name in names:
        by_letter.setdefault(name[0], []).append(name[1:])
    branches = "|".join(f"{letter}(?:{'|'.join(rests)})" for letter, rests in by_letter.items())
    return re.compile(rf'"(?=[{"".join(by_letter)}])({branches})"'.encode() + _SPACE + rb":")
