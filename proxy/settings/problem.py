"""What is wrong with a configuration, said so that its writer can put it right."""

import re
from dataclasses import dataclass

_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ESCAPES = {'"': '\\"', "\\": "\\\\"}


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to put right. No field ever holds the value of a secret.

    `path` reads like TOML, with list positions counted from 0 (`models."gpt-5".deployments[1].provider`);
    for a syntax error it is the place in the text (`line 3, column 7`).
    """

    path: str
    expected: str
    found: str
    suggestion: str | None = None

    def __str__(self) -> str:
        said = f"{self.path}: expected {self.expected}; found {self.found}"
        return said if self.suggestion is None else f"{said}. {self.suggestion}"


class SettingsError(Exception):
    """The configuration is refused whole; `problems` holds everything that is wrong with it."""

    def __init__(self, path: str, problems: tuple[Problem, ...]) -> None:
        assert problems
        super().__init__("\n".join([f"{path}: {len(problems)} to put right", *map(str, problems)]))
        self.path = path
        self.problems = problems


def member(where: str, name: str) -> str:
    """The path of a table's member."""
    shown = name if _PLAIN_NAME.fullmatch(name) else _quoted(name)
    return f"{where}.{shown}" if where else shown


def element(where: str, index: int) -> str:
    """The path of a list's element, counted from 0."""
    return f"{where}[{index}]"


def _quoted(name: str) -> str:
    """The name as a TOML basic string, so that a newline in it cannot forge a line of output."""
    return '"' + "".join(_ESCAPES.get(char, char if char.isprintable() else _escaped(char)) for char in name) + '"'


def _escaped(char: str) -> str:
    return f"\\u{ord(char):04X}" if ord(char) < 0x10000 else f"\\U{ord(char):08X}"
