"""A secret that cannot be shown by accident.

Invariant: the text leaves the object through `reveal()` alone, which is called only where
an outbound header is built or a digest is taken.
"""

from typing import NoReturn


class Secret:
    """A provider key, a pepper, or another text that no log, repr or pickle may hold."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Give the text itself. Call it as late, and in as few places, as can be."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(…)"

    def __str__(self) -> str:
        return "Secret(…)"

    def __format__(self, _spec: str) -> str:
        return "Secret(…)"

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError("a Secret is not pickled: it would leave the process as plain text")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash((Secret, self._text))
