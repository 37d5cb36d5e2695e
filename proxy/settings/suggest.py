"""The name that was probably meant."""

from collections.abc import Iterable
from difflib import get_close_matches

NAME_CHARS_MAX = 128  # the comparison is quadratic; no real name is longer
NAMES_MAX = 2_000


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like this one, or None where none is near."""
    if len(name) > NAME_CHARS_MAX:
        return None
    candidates = sorted(known)[:NAMES_MAX]
    by_fold = {candidate.casefold().replace("-", "_"): candidate for candidate in candidates}
    matches = get_close_matches(name.casefold().replace("-", "_"), by_fold, n=1, cutoff=0.6)
    return by_fold[matches[0]] if matches else None


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """A sentence that offers the nearest name, or None."""
    near = nearest(name, known)
    return None if near is None else f'Did you mean "{near}"?'
