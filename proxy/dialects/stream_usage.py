"""Whether a stream is asked for its usage, by whom, and how the asking is spliced in.

Pure. OpenAI's chat completions and completions report a stream's usage only where the request
has `stream_options: {"include_usage": true}`. Then one event more, with `"choices":[]` and the
usage, comes before `data: [DONE]`, and all others carry `"usage":null`
(platform.openai.com/docs/api-reference/chat-streaming). `usage_remover` takes that out again.
Responses and Anthropic's messages report unasked, and have no such option.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Any, Final, Literal, TypeAlias

from proxy.dialects.openai import Operation
from proxy.dialects.splice import edit_member, set_member

StreamUsageMode: TypeAlias = Literal["auto", "leave", "inject", "restore"]
"""What a tenant has chosen (`stream_usage`)."""

_OPERATIONS: Final = frozenset({"chat_completions", "completions"})
_OPTIONS: Final = "stream_options"
_FLAG: Final = "include_usage"
# vLLM's: once usage is asked for, all chunks report it, which looks like what others send unasked.
_CONTINUOUS: Final = "continuous_usage_stats"


class UsageAsking(Enum):
    """What is done to a stream so that its usage is reported."""

    LEAVE = "leave"  # nothing: the call and its answer stay as they are
    INJECT = "inject"  # the flag is spliced in, and the caller sees what it causes
    RESTORE = "restore"  # it is spliced in, and what it causes is taken out again


def choose(
    mode: StreamUsageMode,
    operation: Operation,
    document: Mapping[str, Any] | None,
    *,
    dollar_cap_holds: bool,
    usage_unasked: bool,
) -> UsageAsking:
    """Say what is done for this call.

    `document` is the body, parsed; `usage_unasked` says that the provider reports without
    being asked.
    """
    if mode == "leave" or document is None or usage_unasked or not has_flag(operation):
        return UsageAsking.LEAVE
    if document.get("stream") is not True or not _can_ask(document):
        return UsageAsking.LEAVE
    if mode == "inject":
        return UsageAsking.INJECT
    if mode == "auto" and not dollar_cap_holds:
        return UsageAsking.LEAVE
    # What continuous reports add cannot be told apart from the provider's own habit.
    return UsageAsking.LEAVE if (document.get(_OPTIONS) or {}).get(_CONTINUOUS) else UsageAsking.RESTORE


def has_flag(operation: Operation) -> bool:
    """True where a stream's usage can be asked for at all."""
    return operation.name in _OPERATIONS


def _can_ask(document: Mapping[str, Any]) -> bool:
    """True where the caller did not ask, and said nothing that the provider would refuse."""
    options = document.get(_OPTIONS)
    if options is None:
        return True
    if not isinstance(options, dict):
        return False
    flag = options.get(_FLAG)
    return flag is None or flag is False


def inject(text: bytes, document: Mapping[str, Any]) -> bytes:
    """The body's text with the flag spliced in, and every other byte as it was sent.

    `document` is the text, parsed, and `choose` said INJECT or RESTORE for it. The result
    differs from `text` within `stream_options` alone, so that other edits of the same text
    may come before or after.
    """
    options = document.get(_OPTIONS)
    if not options:  # absent, null or empty
        return set_member(text, document, _OPTIONS, b'{"include_usage":true}')
    return edit_member(text, _OPTIONS, lambda value: set_member(value, options, _FLAG, b"true"))
