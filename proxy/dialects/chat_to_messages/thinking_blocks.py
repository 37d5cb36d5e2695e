"""How a model's signed thinking travels through a client that knows nothing of it, and back.

Pure. Where a model thinks and calls tools, Anthropic wants the blocks of its thinking back, unchanged, with the
tools' results (platform.claude.com/docs/en/build-with-claude/extended-thinking, "Preserving thinking blocks"). Chat
Completions has no place for them. A tool call's `extra_content` is one that clients keep, since Gemini needs it too
(ai.google.dev/gemini-api/docs/thought-signatures).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from proxy.dialects.members import array_of, object_of, wrong

_OURS: Final = "tollway"
_BLOCKS: Final = "thinking_blocks"
KINDS: Final = ("thinking", "redacted_thinking")


def with_thinking(blocks: Sequence[Any]) -> dict[str, Any]:
    """The `extra_content` of the tool call that this thinking led to."""
    return {_OURS: {_BLOCKS: blocks}}


def thinking_in(tool_call: Mapping[str, Any], place: str) -> list[dict[str, Any]]:
    """The blocks that came with a tool call; none where it is another model's.

    Raises:
        InvalidParameter: what stands there was never written by this gateway.
    """
    extra = tool_call.get("extra_content")
    ours = extra.get(_OURS) if isinstance(extra, dict) else None
    if ours is None:
        return []
    where = f"{place}.extra_content.{_OURS}"
    blocks: list[dict[str, Any]] = []
    for block in array_of(object_of(ours, where).get(_BLOCKS), f"{where}.{_BLOCKS}"):
        if not isinstance(block, dict) or block.get("type") not in KINDS:
            raise wrong(where, "holds what is no block of thinking. Send it back as it came.")
        blocks.append(block)
    return blocks
