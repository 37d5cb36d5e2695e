"""JSON in and out: the only importer of orjson."""

import json
from decimal import Decimal
from typing import Any

import orjson

from proxy.core.errors import DuplicateParameter, InvalidJson


def parse(raw: bytes) -> Any:
    """Parse one JSON text.

    Raises:
        InvalidJson: not JSON (RFC 8259), not UTF-8, or a number such as NaN.
    """
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InvalidJson(f"The request body is not valid JSON: {error}. Send one JSON object, in UTF-8.") from None


def parse_exact(raw: bytes) -> Any:
    """Parse one JSON text of which every member counts: no name stands twice in an object, and a number with a
    point or an exponent is an exact `Decimal`. Some ten times slower than `parse`.

    Raises:
        InvalidJson: as `parse`; also where it is nested too deep, or a whole number has thousands of digits.
        DuplicateParameter: a name stands twice: two readers could choose differently.
    """
    parse(raw)  # the stricter of the two says what is JSON
    try:
        return json.loads(raw, parse_float=Decimal, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        message = "The request body is nested too deep, or has a number that is too long. Send one plain JSON object."
        raise InvalidJson(message) from None


def encode(document: Any) -> bytes:
    """Encode a document of plain values, without spaces."""
    return orjson.dumps(document)


def encode_to_keep(document: Any) -> bytes:
    """As `encode`, for what is kept for a while: orjson's own bytes lie in a buffer of 16 KB, which they hold."""
    return memoryview(orjson.dumps(document)).tobytes()


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise DuplicateParameter(f"`{twice[:64]}` stands twice in one object. Send it once.", param=twice[:64])
    return members
