"""JSON in and out: the only importer of orjson."""

from typing import Any

import orjson

from proxy.core.errors import InvalidJson


def parse(raw: bytes) -> Any:
    """Parse one JSON text.

    Raises:
        InvalidJson: not JSON (RFC 8259), not UTF-8, or a number such as NaN.
    """
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InvalidJson(f"The request body is not valid JSON: {error}. Send one JSON object, in UTF-8.") from None


def encode(document: Any) -> bytes:
    """Encode a document of plain values, without spaces."""
    return orjson.dumps(document)
