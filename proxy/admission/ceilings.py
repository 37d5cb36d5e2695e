"""How much a call lets a model write: its ceiling, and how many answers it asks for.

Pure. A value that two readers could understand differently counts as the dearer of the two: digits
in a string are so many answers, but no ceiling. Sources: the API references of OpenAI, Anthropic, DeepSeek,
Mistral, Together.
"""

from collections.abc import Mapping
from functools import lru_cache
from math import ceil, isfinite
from typing import Any, Final

_NAMES: Final = {
    "chat_completions": ("max_completion_tokens", "max_tokens"),
    "completions": ("max_tokens",),
    "responses": ("max_output_tokens",),
    "responses_compact": ("max_output_tokens",),
    "messages": ("max_tokens",),
}
# Providers that know chat's older name alone, and let the newer one pass unread.
_OLDER_NAME_ONLY: Final = frozenset({"deepinfra", "deepseek", "mistral", "together", "zai"})
_NAMED_MAX: Final = 1_024
_DIGITS_MAX: Final = 18
_NUMBER_MAX: Final = 10**_DIGITS_MAX


@lru_cache(maxsize=_NAMED_MAX)
def ceiling_names(operation_name: str, catalog: str) -> tuple[str, ...]:
    """The fields by which this provider lets a caller bound an answer, the one to prefer first."""
    names = _NAMES.get(operation_name, ())
    if operation_name == "chat_completions" and catalog.partition("@")[0] in _OLDER_NAME_ONLY:
        return names[1:]
    return names


def own_ceiling(document: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    """The caller's own ceiling for one answer, in tokens: the largest, where there are several.
    None where there is none that surely bounds."""
    bounds = [sure_bound(document[name]) for name in names if name in document]
    return max([bound for bound in bounds if bound is not None], default=None)


def choices(operation_name: str, document: Mapping[str, Any]) -> int:
    """How many answers are made, the discarded ones of `best_of` included."""
    if operation_name not in ("chat_completions", "completions"):
        return 1
    count = (largest_reading(document["n"]) or 1) if "n" in document else 1
    if operation_name == "chat_completions":
        return count
    best_of = largest_reading(document.get("best_of")) or 1
    return max(count, best_of) * prompts(document.get("prompt"))


def prompts(prompt: object) -> int:
    """How many prompts an array is: one where it is a single prompt's token ids."""
    if not isinstance(prompt, list) or not prompt or all(type(item) is int for item in prompt):
        return 1
    return len(prompt)


def largest_reading(value: object) -> int | None:
    """The largest positive number that a lenient reader could take this for; None: no number."""
    if isinstance(value, str):
        text = value.strip()
        if text.isascii() and text.replace(".", "", 1).isdigit() and len(text) <= _DIGITS_MAX:
            return sure_bound(float(text) if "." in text else int(text))
    return sure_bound(value)


def sure_bound(value: object) -> int | None:
    """A positive number, as everybody reads it, rounded up; None for what some pass over: text,
    and zero and less, which mean "no limit" to some."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float):
        value = ceil(value) if isfinite(value) else None
    if isinstance(value, int) and value > 0:
        return min(value, _NUMBER_MAX)
    return None
