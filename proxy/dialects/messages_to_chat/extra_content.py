"""How what a provider wants back with a tool call travels through a client of Messages, and back.

Pure. Gemini puts `extra_content` (a signature of its thinking) beside a tool call, and refuses the call's result
without it (ai.google.dev/gemini-api/docs/thought-signatures). Messages has a block that clients must send back as it
came, whatever is in it: `redacted_thinking` (platform.claude.com/docs/en/build-with-claude/extended-thinking).
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Final

from proxy.core import jsonio
from proxy.core.errors import InvalidJson
from proxy.dialects.members import wrong

_OURS: Final = "tollway:"


def extra_content_block(by_call: Mapping[str, Any]) -> dict[str, Any]:
    """The block that stands before the calls. `by_call`: what came beside each, by the call's id."""
    return {"type": "redacted_thinking", "data": _OURS + base64.b64encode(jsonio.encode(by_call)).decode()}


def extra_content_in(block: Mapping[str, Any], place: str) -> Mapping[str, Any]:
    """What a block of redacted thinking holds for which call; nothing where it is a model's own.

    Raises:
        InvalidParameter: it was changed on its way.
    """
    data = block.get("data")
    if not isinstance(data, str) or not data.startswith(_OURS):
        return {}
    try:
        by_call = jsonio.parse(base64.b64decode(data[len(_OURS) :], validate=True))
    except (InvalidJson, binascii.Error, ValueError):
        by_call = None
    if not isinstance(by_call, dict):
        raise wrong(f"{place}.data", "is not as it came. Send such blocks back unchanged.")
    return by_call
