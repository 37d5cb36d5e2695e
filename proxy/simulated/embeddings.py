"""Embeddings: unit vectors made from a hash of the text, so that equal texts are equal vectors.

Pure. Source: https://platform.openai.com/docs/api-reference/embeddings; base64 is of
little-endian float32, which the official SDKs ask for unless told otherwise.
"""

import base64
import hashlib
import math
import struct
from typing import Final

from proxy.core import jsonio
from proxy.simulated import words
from proxy.simulated.behaviour import Behaviour
from proxy.simulated.refusals import missing, wrong_type, wrong_value
from proxy.simulated.steps import Document, Reply, Stamp

DIMENSIONS: Final = 256
DIMENSIONS_MAX: Final = 3_072
INPUTS_MAX: Final = 2_048


def embeddings(document: Document, model: str, _behaviour: Behaviour, _stamp: Stamp) -> Reply:
    """Answer POST /embeddings. Raises Refusal."""
    inputs = _inputs(document)
    dimensions = words.positive(document, "dimensions") or DIMENSIONS
    if dimensions > DIMENSIONS_MAX:
        raise wrong_value("dimensions", f"an integer of at most {DIMENSIONS_MAX}")
    encoding = document.get("encoding_format", "float")
    if encoding not in ("float", "base64"):
        raise wrong_value("encoding_format", "'float' or 'base64'")
    data = [
        {"object": "embedding", "index": index, "embedding": _encoded(vector(text, dimensions), encoding)}
        for index, (text, _) in enumerate(inputs)
    ]
    input_tokens = sum(tokens for _, tokens in inputs)
    usage = {"prompt_tokens": input_tokens, "total_tokens": input_tokens}
    return jsonio.encode({"object": "list", "data": data, "model": model, "usage": usage})


def vector(text: bytes, dimensions: int) -> tuple[float, ...]:
    """The text's vector, of length 1 (to the precision of float32)."""
    digest = hashlib.shake_256(text).digest(2 * dimensions)
    raw = struct.unpack(f"<{dimensions}h", digest)
    length = math.sqrt(sum(value * value for value in raw)) or 1.0
    return tuple(value / length for value in raw)


def _encoded(values: tuple[float, ...], encoding: str) -> object:
    packed = struct.pack(f"<{len(values)}f", *values)
    if encoding == "base64":
        return base64.b64encode(packed).decode()
    return struct.unpack(f"<{len(values)}f", packed)


def _inputs(document: Document) -> list[tuple[bytes, int]]:
    """Each input as bytes to be hashed, and its tokens. An input is a text or a list of token numbers."""
    given = document.get("input")
    if given is None:
        raise missing("input")
    if isinstance(given, str) or (isinstance(given, list) and given and isinstance(given[0], int)):
        given = [given]
    if not isinstance(given, list):
        raise wrong_type("input", "a string or an array")
    if not 1 <= len(given) <= INPUTS_MAX:
        raise wrong_value("input", f"an array with 1 to {INPUTS_MAX} elements")
    return [_input(item) for item in given]


def _input(item: object) -> tuple[bytes, int]:
    if isinstance(item, str):
        return item.encode(), words.count_tokens(item)
    if isinstance(item, list) and all(isinstance(token, int) for token in item):
        return repr(item).encode(), len(item)
    raise wrong_type("input", "strings or arrays of integers")
