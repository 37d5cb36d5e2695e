"""What of a chat has no counterpart in Messages.

Pure. What is equal to what Anthropic's models do anyway is no loss. A name that nobody here knows is one: whoever
sends it expects something of it. Source: platform.openai.com/docs/api-reference/chat/create.
"""

from collections.abc import Mapping
from typing import Any, Final

# Said in Messages, in whole or by the modules beside this one.
_SAID: Final = frozenset(
    {
        "cache_control",
        "functions",
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "model",
        "parallel_tool_calls",
        "reasoning_effort",
        "response_format",
        "safety_identifier",
        "service_tier",
        "stop",
        "stream",
        "stream_options",
        "temperature",
        "tool_choice",
        "tools",
        "top_p",
        "user",
    }
)
# By name, the values that ask for nothing.
_IDLE: Final[Mapping[str, tuple[object, ...]]] = {
    "function_call": ("auto", "none"),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "logprobs": (False,),
    "metadata": ({},),
    "modalities": (["text"],),
    "n": (1,),
    "presence_penalty": (0,),
    "store": (False,),
    "top_logprobs": (0,),
    "verbosity": ("medium",),
}
# What only makes a call cheaper or its answer come sooner: without it the answer is the same.
_SAVING: Final = frozenset({"prediction", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention"})


def losses_in(document: Mapping[str, Any]) -> list[str]:
    """The members of the body that are lost, in their order."""
    lost: list[str] = []
    for name, value in document.items():
        if name in _SAID or name in _SAVING or value is None:
            continue
        idle = _IDLE.get(name, ())
        if not any(value == each and isinstance(value, bool) == isinstance(each, bool) for each in idle):
            lost.append(name)
    return lost
