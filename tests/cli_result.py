"""What a command said, and a screen to say it on."""

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass
class Result:
    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


def begin_state(folder: Path) -> None:
    """An embedded store in which nothing is, as a gateway leaves it that nobody has called."""
    folder.mkdir()
    (folder / "tollway.db").touch()


class Screen(io.StringIO):
    """Standard error that is a terminal."""

    def isatty(self) -> bool:
        return True
