"""What an exchange keeps of a call that was said in another API: what to make of the answer, and what was lost."""

import re
from typing import Final, NamedTuple

from proxy.dialects.translation import AnswerTranslator

_TOLD_MAX: Final = 16
_TOLD_CHARACTERS_MAX: Final = 64
_PATH: Final = re.compile(r"[A-Za-z0-9_.]+", re.ASCII)


class Translation(NamedTuple):
    """One call's."""

    name: str  # `FROM>TO`, by the operations' names: a header and a column of the row
    path: str  # where, behind `/v1`
    answers: AnswerTranslator
    dropped: str | None  # what was left out, as it is told; None: nothing


def told(dropped: tuple[str, ...]) -> str | None:
    """What was left out, as a header and a row can hold it: names apart by commas, a few of them.

    A name is the caller's own text, where it is one that no API knows: what is no plain name is only counted.
    """
    if not dropped:
        return None
    plain = [name for name in dropped if len(name) <= _TOLD_CHARACTERS_MAX and _PATH.fullmatch(name)][:_TOLD_MAX]
    others = len(dropped) - len(plain)
    return ", ".join([*plain, f"{others} more"] if others else plain)
