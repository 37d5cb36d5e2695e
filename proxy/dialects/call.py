"""From a body's bytes to the few fields of it that decide.

Pure. Whatever decides must be read alike by every reader: a deciding name that stands twice
is refused, because the provider might choose the other one.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from proxy.core import jsonio
from proxy.core.errors import DuplicateParameter, InvalidJson, InvalidParameter, RequestTooLarge
from proxy.core.types import Call
from proxy.dialects.encoding import decompress
from proxy.dialects.letter_case import misread_name
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
    # What the worst case is made of: a smaller ceiling in front of a larger one would hold too little.
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "max_tool_calls",
    "thinking",
    "n",
    "best_of",
    "echo",
    "prediction",
    "service_tier",
    "speed",
    "inference_geo",
    "reasoning",
    "reasoning_effort",
    "background",
    "system",
    "context_management",
    "compaction",
    "web_search_options",
    "extra_body",
    # What no ceiling bounds, and what no cap therefore lets pass.
    "fallbacks",
    "mcp_servers",
    "models",
    "plugins",
    "search_parameters",
    "cached_content",
)
_DECIDING: Final = frozenset(DECIDING_NAMES)
# A name is kept in the run's row, in a log line and in a header of the answer: without a bound
# one caller's rows would be too large to be written, and everybody's would wait behind them.
MODEL_CHARACTERS_MAX: Final = 256
# What each value costs is far more than its bytes: 32 MiB of `[],` would take a gigabyte, and
# hold everybody up for seconds. A text with a million commas and brackets is no honest call.
VALUES_MAX: Final = 1_000_000
# A form has only text; what FastAPI and its like take for true.
_TRUE: Final = frozenset({"true", "1", "on", "yes", "t", "y"})
_WHOLE_NUMBER: Final = re.compile(r"[0-9]{1,9}")


def parse_call(operation: Operation, body: bytes, coding: bytes | None, bytes_max: int) -> Call:
    """Read one whole body.

    Raises:
        InvalidJson: not JSON, or not an object where the endpoint takes one.
        InvalidParameter: `model` is no text, or `stream` no truth value.
        DuplicateParameter: a deciding name stands twice, or in another case.
        UnsupportedEncoding, RequestTooLarge: the body cannot be decompressed, or has too many values.
    """
    text = body if coding is None else _decoded(body, coding, bytes_max)
    if not text:
        if operation.body is BodyKind.JSON:
            raise InvalidJson("The request body is empty. Send one JSON object.")
        return Call(body=body)
    if len(text) > VALUES_MAX and _values_at_most(text) > VALUES_MAX:
        raise RequestTooLarge(f"The body has more than {VALUES_MAX} commas and brackets. Send less in one call.")
    document = jsonio.parse(text)
    if not isinstance(document, dict):
        if operation.body is BodyKind.JSON:
            raise InvalidJson(f"The request body is a JSON {_kind(document)}. Send one JSON object.")
        return Call(body=body)
    twice = duplicates(text, document, DECIDING_NAMES)
    if twice is not None:
        raise DuplicateParameter(f"`{twice}` stands twice in the body. Send it once.", param=twice)
    _refuse_other_case(document)
    # Where the path may name another model than the body, the body's decides nothing.
    model = None if operation.model_in_path else _model(document)
    stream = document.get("stream", False)
    return Call(model, stream if stream.__class__ is bool else _stream(stream), body, text, document)


def form_call(operation: Operation, fields: Mapping[str, str]) -> Call:
    """What a form asks for, by its fields that decide. Its bytes are not the call's to hold.

    Raises:
        InvalidParameter: `model` is empty or no name, or `n` no number where it counts pictures.
    """
    if operation.name == "images" and not _WHOLE_NUMBER.fullmatch(fields.get("n", "1")):
        raise InvalidParameter("`n` must be a whole number.", param="n")
    model = None if operation.model_in_path else _model(fields)
    return Call(model, fields.get("stream", "").strip().lower() in _TRUE, None, None, fields)


def _decoded(body: bytes, coding: bytes, bytes_max: int) -> bytes:
    return body if coding.strip().lower() in (b"", b"identity") else decompress(body, coding, bytes_max)


def _values_at_most(text: bytes) -> int:
    return text.count(b",") + text.count(b"[") + text.count(b"{")


def _refuse_other_case(document: dict[str, Any]) -> None:
    name = misread_name(document, _DECIDING)
    if name is not None:
        meant = name.casefold()
        raise DuplicateParameter(f"Some providers read `{name}` as `{meant}`. Send `{meant}` alone.", param=name)


def _model(document: Mapping[str, Any]) -> str | None:
    model = document.get("model")
    if isinstance(model, str) and model and len(model) <= MODEL_CHARACTERS_MAX and model.isprintable():
        return model
    if model is None:
        return None
    if not isinstance(model, str):
        raise InvalidParameter(f"`model` must be a string, not a JSON {_kind(model)}.", param="model")
    rule = f"at most {MODEL_CHARACTERS_MAX} printable characters" if model else "empty"
    raise InvalidParameter(f"`model` is {rule}. GET /v1/models lists yours.", param="model")


def _stream(stream: object) -> bool:
    if stream is None or isinstance(stream, bool):
        return bool(stream)
    raise InvalidParameter(f"`stream` must be true or false, not a JSON {_kind(stream)}.", param="stream")


def _kind(document: object) -> str:
    if document is None:
        return "null"
    names = {bool: "boolean", int: "number", float: "number", str: "string", list: "array", dict: "object"}
    return names.get(type(document), "value")
