"""What a request to the admin API says, read strictly: what is not understood is refused, never ignored."""

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final, TypeVar

from starlette.requests import Request

from proxy.administration.desk import Desk
from proxy.core import jsonio
from proxy.core.admin_errors import UnknownParameter, UnsupportedContentType
from proxy.core.errors import (
    DuplicateParameter,
    InvalidJson,
    InvalidParameter,
    MissingParameter,
    RequestTooLarge,
    UnsupportedEncoding,
)
from proxy.core.limits import CAP_NUSD_MAX
from proxy.core.money import USD_DECIMALS_MAX, nusd_of, usd_text
from proxy.settings.suggest import did_you_mean
from proxy.settings.values import Mismatch

BODY_BYTES_MAX: Final = 65_536
_SHOWN_CHARS_MAX: Final = 64

Choice = TypeVar("Choice", bound=StrEnum)
Value = TypeVar("Value")


class Fields:
    """One JSON object's members, or a query's parameters. Every reader raises InvalidParameter for another type."""

    __slots__ = ("_members", "_where")

    def __init__(self, members: Mapping[str, Any], known: Iterable[str], where: str = "") -> None:
        """Raises UnknownParameter for a member that is not among the known ones."""
        self._members = members
        self._where = where
        names = tuple(known)
        for name in members:
            if name not in names:
                near = did_you_mean(name, names)
                there_are = f"There are: {', '.join(names)}." if names else "There are none here."
                param = self._at(name[:_SHOWN_CHARS_MAX])
                raise UnknownParameter(f"Nothing here is called `{param}`. {near or there_are}", param=param)

    def required(self, name: str) -> None:
        """Raises MissingParameter where it is not there."""
        if name not in self._members:
            raise MissingParameter(f"`{self._at(name)}` is missing. Add it.", param=self._at(name))

    def text(self, name: str) -> str | None:
        """A text; None where it is not there."""
        value = self._members.get(name)
        if name not in self._members or isinstance(value, str):
            return value
        raise self._wrong(name, "a text")

    def has(self, name: str) -> bool:
        """True where it is there, null or not."""
        return name in self._members

    def is_null(self, name: str) -> bool:
        """True where it is there, and null."""
        return name in self._members and self._members[name] is None

    def text_or_null(self, name: str) -> str | None:
        """A text; None where it is null, or not there."""
        return None if self.is_null(name) else self.text(name)

    def parsed(self, name: str, parse: Callable[[str], Value]) -> Value | None:
        """A text as `parse` understands it, which raises Mismatch."""
        text = self.text(name)
        return None if text is None else self._parse(name, text, parse)

    def texts(self, name: str, parse: Callable[[str], Value]) -> list[Value] | None:
        """A list of texts, each parsed."""
        if name not in self._members:
            return None
        value = self._members[name]
        if not isinstance(value, list):
            raise self._wrong(name, "a list of texts")
        found = []
        for index, item in enumerate(value):
            if not isinstance(item, str):
                raise self._wrong(f"{name}[{index}]", "a text")
            found.append(self._parse(f"{name}[{index}]", item, parse))
        return found

    def choice(self, name: str, choices: type[Choice]) -> Choice | None:
        """One of a closed set of texts."""
        text, names = self.text(name), [str(choice) for choice in choices]
        if text is None:
            return None
        if text not in names:
            raise self._wrong(name, f"one of {', '.join(names)}", did_you_mean(text, names))
        return choices(text)

    def flag(self, name: str) -> bool | None:
        """true or false."""
        value = self._members.get(name)
        if name not in self._members or isinstance(value, bool):
            return value
        raise self._wrong(name, "true or false")

    def integer(self, name: str, minimum: int, maximum: int) -> int | None:
        """A whole number within bounds."""
        if name not in self._members:
            return None
        value = self._members[name]
        if isinstance(value, int) and not isinstance(value, bool) and minimum <= value <= maximum:
            return value
        raise self._wrong(name, f"a whole number from {minimum} to {maximum}")

    def dollars(self, name: str) -> int | None:
        """An amount of dollars, as a number or as a decimal in a text; in nano-dollars, exactly."""
        if name not in self._members:
            return None
        value = self._members[name]
        is_amount = isinstance(value, int | str | Decimal) and not isinstance(value, bool)
        try:
            nusd = nusd_of(Decimal(value)) if is_amount else -1
        except (ArithmeticError, ValueError):
            nusd = -1
        if 0 <= nusd <= CAP_NUSD_MAX:
            return nusd
        bound = usd_text(CAP_NUSD_MAX).removesuffix(".00")
        raise self._wrong(name, f"dollars from 0 to {bound}, with at most {USD_DECIMALS_MAX} decimals")

    def table(self, name: str, known: Iterable[str]) -> "Fields | None":
        """An object within."""
        if name not in self._members:
            return None
        value = self._members[name]
        if not isinstance(value, dict):
            raise self._wrong(name, "an object")
        return Fields(value, known, self._at(name))

    def _parse(self, name: str, text: str, parse: Callable[[str], Value]) -> Value:
        try:
            return parse(text)
        except Mismatch as mismatch:
            raise self._wrong(name, mismatch.expected, mismatch.suggestion) from None

    def _wrong(self, name: str, expected: str, suggestion: str | None = None) -> InvalidParameter:
        # The value is not repeated: somebody may have put a secret there.
        at = self._at(name)
        said = f"`{at}` has to be {expected}."
        return InvalidParameter(said if suggestion is None else f"{said} {suggestion}", param=at)

    def _at(self, name: str) -> str:
        return f"{self._where}.{name}" if self._where else name


class Asked:
    """One authenticated request, and what its token's holder may use."""

    __slots__ = ("_request", "desk", "now_ms")

    def __init__(self, request: Request, desk: Desk, now_ms: int) -> None:
        self._request = request
        self.desk = desk
        self.now_ms = now_ms

    def in_path(self, name: str) -> str:
        """A part of the path that stands for something."""
        part = self._request.path_params[name]
        assert isinstance(part, str)
        return part

    def query(self, *known: str) -> Fields:
        """The query's parameters. Raises UnknownParameter, DuplicateParameter."""
        pairs = self._request.query_params.multi_items()
        members = dict(pairs)
        if len(members) != len(pairs):
            raise DuplicateParameter("A parameter stands twice in the query. Send each once.")
        return Fields(members, known)

    async def body(self, *known: str) -> Fields:
        """The body's members. No body at all is an empty object.

        Raises:
            UnsupportedContentType, UnsupportedEncoding, RequestTooLarge, InvalidJson, DuplicateParameter,
            UnknownParameter
        """
        if self._request.headers.get("content-encoding", "identity").lower() != "identity":
            raise UnsupportedEncoding("The admin API reads plain JSON. Send the body without a content-encoding.")
        raw = await self._read()
        if raw:
            content_type = self._request.headers.get("content-type", "")
            if not _is_json(content_type):
                raise UnsupportedContentType("Send JSON in UTF-8, with the header `content-type: application/json`.")
        document = jsonio.parse_exact(raw) if raw else {}
        if not isinstance(document, dict):
            raise InvalidJson("The request body is JSON, and no object. Send one JSON object.")
        return Fields(document, known)

    async def _read(self) -> bytes:
        pieces, size_bytes = [], 0
        async for piece in self._request.stream():
            size_bytes += len(piece)
            if size_bytes > BODY_BYTES_MAX:
                raise RequestTooLarge(f"The admin API takes a body of at most {BODY_BYTES_MAX} bytes. Send less.")
            pieces.append(piece)
        return b"".join(pieces)


def _is_json(content_type: str) -> bool:
    kind, _, parameters = content_type.partition(";")
    charset = parameters.strip().lower().removeprefix("charset=").strip('"')
    return kind.strip().lower() == "application/json" and charset in ("", "utf-8")
