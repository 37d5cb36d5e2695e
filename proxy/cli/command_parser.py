"""Reads words as argparse does, and says what can be typed where a command is missing."""

import argparse
from typing import Final, NoReturn

COMMAND: Final = "COMMAND"
_IS_MISSING: Final = f": {COMMAND}"  # as argparse says it: "the following arguments are required: COMMAND"


class CommandParser(argparse.ArgumentParser):
    """The one of `tollway`, and so of each noun and verb."""

    def error(self, message: str) -> NoReturn:
        if not message.endswith(_IS_MISSING):
            super().error(message)
        self.exit(2, f"{self.format_help()}\n{self.prog}: error: which of these commands?\n")
