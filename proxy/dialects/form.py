"""Reads a form as it passes: the fields that decide, and where their values stand.

Pure. `multipart/form-data` (RFC 7578, RFC 2046 section 5.1) is read differently by every parser at
its edges: bare line feeds before a boundary, a preamble, names in two spellings. A deciding field
that one reader sees and another does not would be a way around limits, so what honest clients
never send is refused, and what is accepted has one reading. Files are searched, never kept.
"""

import re
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Final, NamedTuple
from urllib.parse import unquote

from proxy.core.errors import DuplicateParameter, InvalidForm, InvalidParameter, RequestTooLarge
from proxy.dialects.openai import is_charset_read_alike, is_json
from proxy.dialects.provider_objects import field_names_object

DECIDING_FIELDS: Final = frozenset({"model", "stream", "n", "user", "safety_identifier", "service_tier"})
# Fields of which only the presence decides; an object's members are sent as `chunking_strategy[type]`.
_TELLING_FIELDS: Final = frozenset({"chunking_strategy"})
VALUE_BYTES_MAX: Final = 4_096  # of a deciding field
PARTS_MAX: Final = 1_000
_HEAD_BYTES_MAX: Final = 8_192  # of one part

_CRLF: Final = b"\r\n"
_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
# What is not quoted is a token: Werkzeug and others end it where it is none, and read `model(` as `model`.
_PARAMETER: Final = re.compile(
    rb"[ \t]*+;[ \t]*+(" + _TOKEN + rb")[ \t]*+=[ \t]*+(?:\"((?:[^\"\\]|\\.)*+)\"|(" + _TOKEN + rb"))"
)
_END_OF_PARAMETERS: Final = re.compile(rb"[ \t]*+;?[ \t]*+")
_HEADER: Final = re.compile(rb"(" + _TOKEN + rb"):[ \t]*+([^\x00-\x08\x0a-\x1f\x7f]*+)")
_MEDIA_TYPE: Final = re.compile(rb"[ \t]*+" + _TOKEN + rb"/" + _TOKEN)
_DISPOSITION: Final = re.compile(rb"form-data(?=[ \t;])", re.IGNORECASE)
_BOUNDARY: Final = re.compile(rb"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]")  # RFC 2046, 5.1.1
_BOUNDARIES: Final = re.compile(rb"boundary[ \t]*=", re.IGNORECASE)
_NAME_AGAIN: Final = re.compile(rb"(?<![A-Za-z])name[*0-9]*[ \t]*=", re.IGNORECASE)
_PLAIN_CODINGS: Final = frozenset({b"", b"7bit", b"8bit", b"binary"})


class Edit(NamedTuple):
    """New bytes for those from `start` to `end`."""

    start: int
    end: int
    new: bytes


class FormField(NamedTuple):
    """A deciding field, and where its value stands in the form."""

    value: str
    start: int
    end: int
    length_span: tuple[int, int] | None  # of the part's own content-length, where it has one


class _Part(NamedTuple):
    name: str
    is_kept: bool  # its value decides
    length: int | None
    length_span: tuple[int, int] | None


class _State(Enum):
    START = "start"
    HEAD = "head"
    DATA = "data"
    END = "end"


def is_form(content_type: bytes | None) -> bool:
    """True for `multipart/form-data`."""
    return content_type is not None and content_type.partition(b";")[0].strip().lower() == b"multipart/form-data"


def boundary_of(content_type: bytes) -> bytes:
    """The boundary that a multipart content type names.

    Raises:
        InvalidForm: it names none, two, or one that RFC 2046 does not know; or a charset that is not UTF-8's.
    """
    media_type = _MEDIA_TYPE.match(content_type)
    parameters = None if media_type is None else _parameters(content_type, media_type.end())
    if parameters is None:
        raise InvalidForm("The content-type of the form cannot be read. Send `multipart/form-data; boundary=…`.")
    named = [value for name, value in parameters if name.partition(b"*")[0] == b"boundary"]
    is_once = len(_BOUNDARIES.findall(content_type)) == 1  # some look for it wherever it stands
    if len(named) != 1 or not is_once or _BOUNDARY.fullmatch(named[0]) is None:
        raise InvalidForm(
            "The content-type of the form must name one boundary, of at most 70 plain characters: "
            "`multipart/form-data; boundary=…`. A client that sets this header by hand most often forgets it."
        )
    # Starlette, and so what is built on it, reads names and values in that charset: `+AG0-odel` may be `model`.
    if not is_charset_read_alike(content_type):
        raise InvalidForm("The content-type of the form names a charset. Send UTF-8, and no `charset`.")
    return named[0]


class FormReader:
    """Reads one form, fed in pieces cut anywhere. Holds a part's head, a deciding value, or as much
    of a file as a boundary is long; never more."""

    __slots__ = ("_at", "_data_start", "_held", "_is_sealed", "_mark", "_offset", "_part", "_parts", "_state", "fields")

    def __init__(self, boundary: bytes) -> None:
        self.fields: dict[str, FormField] = {}  # what decides and what tells, by name
        self._mark = b"--" + boundary
        self._held = b""
        self._at = 0  # how much of `_held` has been read
        self._offset = 0  # where `_held` begins in the form
        self._state = _State.START
        self._part = _Part("", False, None, None)
        self._parts = 0
        self._data_start = 0  # where the part's data begins in the form
        self._is_sealed = False

    def seal(self) -> None:
        """From here on no field may decide: the call was decided without it."""
        self._is_sealed = True

    def feed(self, piece: bytes) -> None:
        """Read on.

        Raises:
            InvalidForm: not a form, or one that readers read differently.
            DuplicateParameter: a deciding field comes twice, or in another spelling.
            InvalidParameter: a deciding field's value is too long, or not UTF-8, or comes too late.
            RequestTooLarge: it has too many parts.
        """
        self._held = self._held + piece if self._held else piece
        while self._advance():
            pass
        # Once for each piece, not for each part: a thousand small ones would copy the piece a thousand times.
        self._held = self._held[self._at :]
        self._offset += self._at
        self._at = 0

    def close(self) -> None:
        """The form is at its end. Raises InvalidForm where that is not what its bytes say."""
        if self._state is not _State.END:
            raise InvalidForm("The form is cut off: its last boundary is missing. Send it whole.")

    def edits(self, name: str, new_value: str) -> list[Edit]:
        """What gives a deciding field another value, in the order of the form."""
        field = self.fields[name]
        new = new_value.encode()
        found = [Edit(field.start, field.end, new)]
        if field.length_span is not None:
            found.insert(0, Edit(*field.length_span, b"%d" % len(new)))
        return found

    def _advance(self) -> bool:
        """Take what is held one step further; False where more has to come first."""
        if self._state is _State.DATA:
            return self._search_data()
        if self._state is _State.HEAD:
            return self._read_head()
        if self._state is _State.END:
            if self._held[self._at :].strip(_CRLF):
                raise InvalidForm("Something follows the form's last boundary. Send nothing after it.")
            self._at = len(self._held)
            return False
        if len(self._held) < len(self._mark) + 2:
            return False
        if not self._held.startswith(self._mark):
            raise InvalidForm("The body does not begin with the boundary that its content-type names.")
        self._pass_mark(len(self._mark))
        return True

    def _pass_mark(self, behind: int) -> None:
        """What follows a boundary says whether another part does."""
        following = self._held[behind : behind + 2]
        if following == _CRLF:
            self._state = _State.HEAD
        elif following == b"--":
            self._state = _State.END
        else:
            raise _lookalike()
        self._at = behind + 2

    def _read_head(self) -> bool:
        begin = self._at
        end = self._held.find(b"\r\n\r\n", begin)
        if (end if end >= 0 else len(self._held)) - begin > _HEAD_BYTES_MAX:
            raise InvalidForm(f"A part's head has more than {_HEAD_BYTES_MAX} bytes. Send shorter names.")
        if end < 0:
            return False
        self._parts += 1
        if self._parts > PARTS_MAX:
            raise RequestTooLarge(f"The form has more than {PARTS_MAX} parts. Send fewer in one call.")
        self._part = self._read_part(self._held[begin:end])
        # The line feed stays: a boundary at the very beginning of the data is none, and is seen so.
        self._at = end + 3
        self._data_start = self._offset + self._at + 1
        self._state = _State.DATA
        return True

    def _search_data(self) -> bool:
        held, mark = self._held, self._mark
        found = held.find(b"\n" + mark, self._at)
        if held.find(b"\r" + mark, self._at, found if found >= 0 else len(held)) >= 0:
            raise _lookalike()
        if found < 0 or found + len(mark) + 3 > len(held):
            if self._part.is_kept and len(held) - self._at > VALUE_BYTES_MAX + len(mark) + 4:
                raise _too_long(self._part.name)
            if found < 0 and not self._part.is_kept:
                self._at = max(self._at, len(held) - len(mark) - 2)
            return False
        end = self._offset + found - 1
        if end < self._data_start or held[found - 1 : found] != b"\r":
            raise _lookalike()
        self._end_part(end, held)
        self._pass_mark(found + 1 + len(mark))
        return True

    def _end_part(self, end: int, held: bytes) -> None:
        part = self._part
        if part.length is not None and part.length != end - self._data_start:
            raise InvalidForm(f"The part `{_shown(part.name)}` is not as long as its own content-length says.")
        if not part.is_kept:
            return
        self._refuse_late(part.name)  # its head came in time, its value did not
        raw = held[self._data_start - self._offset : end - self._offset]
        if len(raw) > VALUE_BYTES_MAX:
            raise _too_long(part.name)
        try:
            value = raw.decode()
        except UnicodeDecodeError:
            raise InvalidParameter(f"`{part.name}` is not UTF-8.", param=part.name) from None
        self.fields[part.name] = FormField(value, self._data_start, end, part.length_span)

    def _read_part(self, head: bytes) -> _Part:
        headers = self._headers(head)
        disposition = headers.get(b"content-disposition", (b"", 0))[0]
        raw_name, is_file = _disposition(disposition)
        name = raw_name.decode("utf-8", "replace")
        is_kept = self._decides(name)
        if is_kept:
            _refuse_other_readings(name, is_file, headers)
        if b"boundary" in headers.get(b"content-type", (b"", 0))[0].lower():
            raise InvalidForm(f"The part `{_shown(name)}` has parts of its own. Send each as a part of the form.")
        length, at = headers.get(b"content-length", (b"", 0))
        if not length:
            return _Part(name, is_kept, None, None)
        if not length.isdigit() or len(length) > 18:
            raise InvalidForm(f"The content-length of the part `{_shown(name)}` is no number.")
        start = self._offset + self._at + at
        return _Part(name, is_kept, int(length), (start, start + len(length)))

    def _headers(self, head: bytes) -> dict[bytes, tuple[bytes, int]]:
        """A part's header fields, and where each value stands in the head."""
        found: dict[bytes, tuple[bytes, int]] = {}
        offset = 0
        for line in head.split(_CRLF):
            header = _HEADER.fullmatch(line)
            if header is None or line.startswith(self._mark):
                raise InvalidForm("A part's head is malformed. Send one plain `name: value` a line, ended by CRLF.")
            name = header[1].lower()
            if name in found:
                raise InvalidForm(f"A part has two `{_shown(name.decode())}` headers. Send one.")
            found[name] = header[2].rstrip(b" \t"), offset + header.start(2)
            offset += len(line) + 2
        return found

    def _decides(self, name: str) -> bool:
        """True where the value decides. What only tells is noted at once."""
        meant = unquote(name).strip().casefold()
        base = meant.lstrip("[]").partition("[")[0].rstrip("] ")  # as Rack takes `[model]` for `model`
        if base in _TELLING_FIELDS or field_names_object(meant):
            self._refuse_late(name)
            kept_name = base if base in _TELLING_FIELDS else meant
            self.fields.setdefault(kept_name, FormField("", 0, 0, None))
            return False
        if name == "_charset_":
            raise InvalidForm("The field `_charset_` changes how others are read. Send UTF-8, and leave it out.")
        if base not in DECIDING_FIELDS:
            return False
        if name != base:
            message = f"Some providers read `{_shown(name)}` as `{base}`. Send `{base}` alone."
            raise DuplicateParameter(message, param=base)
        if name in self.fields:
            raise DuplicateParameter(f"`{name}` stands twice in the form. Send it once.", param=name)
        self._refuse_late(name)
        return True

    def _refuse_late(self, name: str) -> None:
        if self._is_sealed:
            message = f"`{_shown(name)}` stands too far behind in a form this large. Send it before the files."
            raise InvalidParameter(message, param=name[:128])


def spliced(pieces: Iterable[bytes], edits: Iterable[Edit]) -> Iterator[bytes]:
    """The pieces with each edit applied; edits are in order and apart."""
    pending = list(edits)
    offset = 0
    for piece in pieces:
        end = offset + len(piece)
        kept_from = offset
        while pending and pending[0].start < end:
            start, stop, new = pending.pop(0)
            if start > kept_from:
                yield piece[kept_from - offset : start - offset]
            if new:
                yield new
            kept_from = min(stop, end)
            if stop > end:  # the rest of what goes stands in the pieces that follow
                pending.insert(0, Edit(end, stop, b""))
        if kept_from < end:
            yield piece[kept_from - offset :] if kept_from > offset else piece
        offset = end


def _parameters(raw: bytes, offset: int) -> list[tuple[bytes, bytes]] | None:
    """The parameters from here to the end, names in lower case; None where something else stands there."""
    found: list[tuple[bytes, bytes]] = []
    while (parameter := _PARAMETER.match(raw, offset)) is not None:
        found.append((parameter[1].lower(), parameter[3] if parameter[2] is None else parameter[2]))
        offset = parameter.end()
    return found if _END_OF_PARAMETERS.fullmatch(raw, offset) is not None else None


def _disposition(value: bytes) -> tuple[bytes, bool]:
    """The part's name, and whether it is a file's."""
    kind = _DISPOSITION.match(value)
    parameters = None if kind is None else _parameters(value, kind.end())
    names = [] if parameters is None else [value for name, value in parameters if name == b"name"]
    if parameters is None or len(names) != 1 or any(name.startswith(b"name*") for name, _ in parameters):
        raise InvalidForm('Each part needs one `Content-Disposition: form-data; name="…"`.')
    # Some take a backslash for itself, some for an escape: neither may find another name behind it.
    before, backslash, behind = value.partition(b"\\")
    if backslash and (_NAME_AGAIN.search(before) is None or b"\\" in names[0] or _NAME_AGAIN.search(behind)):
        raise InvalidForm("A backslash in a part's `Content-Disposition` hides its name. Send the name first, plain.")
    if b"=?" in names[0]:
        raise InvalidForm("A part's name is encoded (RFC 2047). Send it plain.")
    return names[0], any(name.partition(b"*")[0] == b"filename" for name, _ in parameters)


def _refuse_other_readings(name: str, is_file: bool, headers: dict[bytes, tuple[bytes, int]]) -> None:
    """Refuse a deciding field that is a file to some, or whose bytes are not its value to others."""
    if is_file:
        raise InvalidParameter(f"`{name}` has a file name. Send it as a plain field.", param=name)
    coding = headers.get(b"content-transfer-encoding", (b"", 0))[0].lower()
    content_type = headers.get(b"content-type", (b"", 0))[0]
    is_alike = is_charset_read_alike(content_type) and not is_json(content_type)
    if coding not in _PLAIN_CODINGS or not is_alike or b"boundary" in content_type.lower():
        raise InvalidParameter(f"`{name}` is encoded. Send it as plain text in UTF-8.", param=name)


def _lookalike() -> InvalidForm:
    return InvalidForm(
        "A line of the form begins like its boundary and is none. Send CRLF around each boundary, and choose one "
        "that stands nowhere in the data."
    )


def _too_long(name: str) -> InvalidParameter:
    return InvalidParameter(f"`{name}` has more than {VALUE_BYTES_MAX} bytes.", param=name)


def _shown(name: str) -> str:
    return name if len(name) <= 64 else name[:61] + "…"
