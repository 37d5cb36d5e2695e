"""What differs from one generation of Anthropic's models to the next, by their names.

Pure, and a table. Sources: platform.claude.com/docs/en/build-with-claude (thinking, effort, structured outputs,
system messages within a conversation) and its migration guides. A name of no known form is taken for a new model's.
"""

import re
from functools import lru_cache
from typing import Final, NamedTuple

# `claude-opus-4-8`, `claude-sonnet-4-5-20250929`, `us.anthropic.claude-haiku-4-5-20251001-v1:0`.
_NEWER_NAME: Final = re.compile(r"claude-(opus|sonnet|haiku|[a-z]+)-(\d{1,2})(?:-(\d{1,2}))?(?!\d)")
# `claude-3-7-sonnet-latest`.
_OLDER_NAME: Final = re.compile(r"claude-(\d)(?:-(\d))?-(opus|sonnet|haiku)")
_NEWEST: Final = (99, 0)

_EFFORT_SINCE: Final = {"opus": (4, 5), "sonnet": (4, 6)}
_ADAPTIVE_SINCE: Final = (4, 6)
_THINKING_SINCE: Final = (3, 7)
_ONE_SAMPLING_SINCE: Final = (4, 1)
_NO_SAMPLING_SINCE: Final = (4, 7)
_SYSTEM_WITHIN_SINCE: Final = {"opus": (4, 8)}
_NOT_YET: Final = (5, 0)


class ClaudeModel(NamedTuple):
    """What one model takes."""

    thinks: bool  # at all
    is_adaptive: bool  # `thinking: {"type": "adaptive"}`; else a budget of tokens is given
    has_effort: bool  # `output_config.effort`
    has_sampling: bool  # `temperature`, `top_p`, `top_k` other than the default
    takes_both_samplings: bool  # both of them in one call
    takes_system_within: bool  # messages of the role `system` behind the first turn


@lru_cache(maxsize=256)
def claude_model(name: str) -> ClaudeModel:
    """What is known of a model by its name, a provider's prefix and a date's suffix aside."""
    family, version = _parsed(name.lower())
    return ClaudeModel(
        thinks=version >= _THINKING_SINCE,
        is_adaptive=version >= _ADAPTIVE_SINCE,
        has_effort=version >= _EFFORT_SINCE.get(family, _NOT_YET),
        has_sampling=version < _NO_SAMPLING_SINCE,
        takes_both_samplings=version < _ONE_SAMPLING_SINCE,
        takes_system_within=family in _SYSTEM_WITHIN_SINCE and version >= _SYSTEM_WITHIN_SINCE[family],
    )


def _parsed(name: str) -> tuple[str, tuple[int, int]]:
    older = _OLDER_NAME.search(name)
    if older is not None:
        return older[3], (int(older[1]), int(older[2] or 0))
    newer = _NEWER_NAME.search(name)
    if newer is not None:
        return newer[1], (int(newer[2]), int(newer[3] or 0))
    return "", _NEWEST
