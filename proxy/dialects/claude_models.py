"""What differs from one generation of Anthropic's models to the next, by their names.

Pure, and a table. Sources: platform.claude.com/docs/en/build-with-claude (thinking, effort, structured outputs,
system messages within a conversation) and the migration guides of Opus 4.7, 4.8, 5 and 5.5, Sonnet 5 and 5.5,
Haiku 5.5, Fable 5.1. A name of no known form is taken for a new model's.
"""

import re
from functools import lru_cache
from typing import Final, NamedTuple, TypeAlias

# `claude-opus-4-8`, `claude-sonnet-4-5-20250929`, `us.anthropic.claude-haiku-4-5-20251001-v1:0`.
_NEWER_NAME: Final = re.compile(r"claude-(opus|sonnet|haiku|[a-z]+)-(\d{1,2})(?:-(\d{1,2}))?(?!\d)")
# `claude-3-7-sonnet-latest`.
_OLDER_NAME: Final = re.compile(r"claude-(\d)(?:-(\d))?-(opus|sonnet|haiku)")
_NEWEST: Final = (99, 0)
_NEVER: Final = (100, 0)
_Version: TypeAlias = tuple[int, int]

# A family that is not named thinks as Fable does: always.
_EFFORT_SINCE: Final = {"opus": (4, 5), "sonnet": (4, 6)}
_EFFORTS_SINCE: Final = {"low": (4, 5), "medium": (4, 5), "high": (4, 5), "xhigh": (4, 7), "max": (4, 6)}
_ADAPTIVE_SINCE: Final = (4, 6)
_THINKING_SINCE: Final = (3, 7)
_UNASKED_SINCE: Final = {"opus": (5, 0), "sonnet": (5, 0), "haiku": (5, 0)}
_ALWAYS_SINCE: Final = {"opus": (5, 5), "sonnet": _NEVER, "haiku": _NEVER}
_BETWEEN_TOOLS_SINCE: Final = {"sonnet": (5, 5)}
_HIDDEN_SINCE: Final = (4, 7)
_ONE_SAMPLING_SINCE: Final = (4, 1)
_NO_SAMPLING_SINCE: Final = (4, 7)
_UNFORCED_SINCE: Final = {"opus": (5, 5), "sonnet": (5, 5), "fable": (5, 1), "mythos": (5, 1)}
_SYSTEM_WITHIN_SINCE: Final = {"opus": (4, 8), "sonnet": (5, 5), "haiku": (5, 5), "fable": (5, 0), "mythos": (5, 0)}
_NOT_YET: Final = (5, 0)


class ClaudeModel(NamedTuple):
    """What one model takes."""

    thinks: bool  # at all
    thinks_unasked: bool  # without `thinking` in the call
    thinking_off: str | None  # the `thinking.type` that turns off what is on unasked; None: nothing does
    is_adaptive: bool  # `thinking: {"type": "adaptive"}`; else a budget of tokens is given
    hides_thinking: bool  # its text is left out unless `thinking.display` asks for a summary
    efforts: tuple[str, ...]  # of `output_config.effort`, the least first; none: it knows no effort
    has_sampling: bool  # `temperature`, `top_p`, `top_k` other than the default
    takes_both_samplings: bool  # both of them in one call
    takes_forced_tools: bool  # `tool_choice` of the types `any` and `tool`
    takes_system_within: bool  # messages of the role `system` behind the first turn


@lru_cache(maxsize=256)
def claude_model(name: str) -> ClaudeModel:
    """What is known of a model by its name, a provider's prefix and a date's suffix aside."""
    family, version = _parsed(name.lower())
    thinks_unasked = version >= _UNASKED_SINCE.get(family, _NOT_YET)
    return ClaudeModel(
        thinks=version >= _THINKING_SINCE,
        thinks_unasked=thinks_unasked,
        thinking_off=_off(family, version) if thinks_unasked else None,
        is_adaptive=version >= _ADAPTIVE_SINCE,
        hides_thinking=version >= _HIDDEN_SINCE,
        efforts=_efforts(family, version),
        has_sampling=version < _NO_SAMPLING_SINCE,
        takes_both_samplings=version < _ONE_SAMPLING_SINCE,
        takes_forced_tools=version < _UNFORCED_SINCE.get(family, _NEVER),
        takes_system_within=version >= _SYSTEM_WITHIN_SINCE.get(family, _NEVER),
    )


def _off(family: str, version: _Version) -> str | None:
    if version >= _ALWAYS_SINCE.get(family, _NOT_YET):
        return None
    return "between_tools" if version >= _BETWEEN_TOOLS_SINCE.get(family, _NEVER) else "disabled"


def _efforts(family: str, version: _Version) -> tuple[str, ...]:
    if version < _EFFORT_SINCE.get(family, _NOT_YET):
        return ()
    return tuple(effort for effort, since in _EFFORTS_SINCE.items() if version >= since)


def _parsed(name: str) -> tuple[str, _Version]:
    older = _OLDER_NAME.search(name)
    if older is not None:
        return older[3], (int(older[1]), int(older[2] or 0))
    newer = _NEWER_NAME.search(name)
    if newer is not None:
        return newer[1], (int(newer[2]), int(newer[3] or 0))
    return "", _NEWEST
