"""From a body's bytes to the few fields of it that decide.

Pure. Whatever decides must be read alike by every reader: a deciding name that stands twice
is refused, because the provider might choose the other one.
"""

from typing import Any, Final

from proxy.core import jsonio
from proxy.core.errors import DuplicateParameter, InvalidJson, InvalidParameter
from proxy.core.types import Call
from proxy.dialects.encoding import decompress
from proxy.dialects.openai import BodyKind, Operation
from proxy.dialects.splice import duplicates

DECIDING_NAMES: Final = (
    "model",
    "stream",
    "stream_options",
    "user",
    "safety_identifier",
    "previous_response_id",
    "conversation",
    "prompt",
    "tools",
    "input",
    "messages",
    "container",
)


def parse_call(operation: Operation, body: bytes, coding: bytes | None, bytes_max: int) -> Call:
    """Read one whole body.

    Raises:
        InvalidJson: not JSON, or not an object where the endpoint takes one.
        InvalidParameter: `model` is no text, or `stream` no truth value.
        DuplicateParameter: a deciding name stands twice.
        UnsupportedEncoding, RequestTooLarge: the body cannot be decompressed.
    """
    text = body if coding is None or coding == b"identity" else decompress(body, coding, bytes_max)
    if not text:
        if operation.body is BodyKind.JSON:
            raise InvalidJson("The request body is empty. Send one JSON object.")
        return Call(body=body)
    document = jsonio.parse(text)
    if not isinstance(document, dict):
        if operation.body is BodyKind.JSON:
            raise InvalidJson(f"The request body is a JSON {_kind(document)}. Send one JSON object.")
        return Call(body=body)
    twice = duplicates(text, document, DECIDING_NAMES)
    if twice is not None:
        raise DuplicateParameter(f"`{twice}` stands twice in the body. Send it once.", param=twice)
    return Call(_model(document), _stream(document), body, text, document)


def _model(document: dict[str, Any]) -> str | None:
    model = document.get("model")
    if model is None or (isinstance(model, str) and model):
        return model
    if isinstance(model, str):
        raise InvalidParameter("`model` is empty. GET /v1/models lists yours.", param="model")
    raise InvalidParameter(f"`model` must be a string, not a JSON {_kind(model)}.", param="model")


def _stream(document: dict[str, Any]) -> bool:
    stream = document.get("stream")
    if stream is None or isinstance(stream, bool):
        return bool(stream)
    raise InvalidParameter(f"`stream` must be true or false, not a JSON {_kind(stream)}.", param="stream")


def _kind(document: object) -> str:
    if document is None:
        return "null"
    names = {bool: "boolean", int: "number", float: "number", str: "string", list: "array", dict: "object"}
    return names.get(type(document), "value")
