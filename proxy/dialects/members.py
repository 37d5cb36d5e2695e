"""Reads members of a JSON document as what they must be, and says where it is not so.

Pure. A place is a path: `messages.2.content.0.text`.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any, Final

from proxy.core.errors import InvalidParameter

_KINDS: Final = {
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "an array",
    dict: "an object",
}
_MESSAGES_MAX: Final = 100_000
_CEILING_MAX: Final = 999_999_999
_BASE64: Final = re.compile(r"[A-Za-z0-9+/]+={0,2}", re.ASCII)


def wrong(place: str, message: str) -> InvalidParameter:
    """The refusal of what stands at a place. `message` goes on from it: `must be …`."""
    return InvalidParameter(f"`{place}` {message}", param=place)


def text_of(value: object, place: str) -> str:
    """A string. Raises InvalidParameter."""
    if isinstance(value, str):
        return value
    raise wrong(place, f"must be a string, not {_kind(value)}.")


def array_of(value: object, place: str) -> list[Any]:
    """An array. Raises InvalidParameter."""
    if isinstance(value, list):
        return value
    raise wrong(place, f"must be an array, not {_kind(value)}.")


def messages_of(value: object) -> list[Any]:
    """The messages of a call, as many as Anthropic's API takes (100,000). Raises InvalidParameter."""
    messages = array_of(value, "messages")
    if len(messages) > _MESSAGES_MAX:
        raise wrong("messages", f"may hold {_MESSAGES_MAX} messages. Send fewer.")
    return messages


def object_of(value: object, place: str) -> Mapping[str, Any]:
    """An object. Raises InvalidParameter."""
    if isinstance(value, dict):
        return value
    raise wrong(place, f"must be an object, not {_kind(value)}.")


def number_of(value: object, place: str) -> float:
    """A number. Raises InvalidParameter."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    raise wrong(place, f"must be a number, not {_kind(value)}.")


def ceiling_of(value: object, place: str) -> int:
    """A ceiling: a whole number of tokens, 1 or more. Raises InvalidParameter."""
    ceiling = number_of(value, place)
    if ceiling != ceiling // 1 or not 1 <= ceiling <= _CEILING_MAX:
        raise wrong(place, "must be a whole number of tokens, 1 or more, and not of ten digits.")
    return int(ceiling)


def flag_of(value: object, place: str) -> bool:
    """True or false. Raises InvalidParameter."""
    if isinstance(value, bool):
        return value
    raise wrong(place, f"must be true or false, not {_kind(value)}.")


def base64_of(value: object, place: str) -> str:
    """A string that is base64 (RFC 4648, section 4). Raises InvalidParameter."""
    text = text_of(value, place)
    # The shape is proven without decoding what may be megabytes; the last four letters tell the padding.
    if len(text) % 4 or _BASE64.fullmatch(text) is None:
        raise wrong(place, "is no base64. Send the bytes in base64 (RFC 4648), without line breaks.")
    try:
        base64.b64decode(text[-4:], validate=True)
    except binascii.Error:
        raise wrong(place, "is no base64: its padding is wrong.") from None
    return text


def _kind(value: object) -> str:
    return "null" if value is None else _KINDS.get(type(value), "that")
