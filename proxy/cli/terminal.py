"""Where commands write: results on standard output, everything else on standard error.

With `--json` a result is one JSON object on one line, and so is a failure.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import TextIO

from proxy.core import jsonio

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells count


class CommandFailed(Exception):
    """The command cannot do what it was asked; the message says what to do about it."""

    def __init__(self, message: str, *, exit_code: int = EXIT_FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code


class Terminal:
    """The two streams of one command."""

    __slots__ = ("_errors", "_output", "as_json")

    def __init__(self, output: TextIO, errors: TextIO, as_json: bool) -> None:
        self._output = output
        self._errors = errors
        self.as_json = as_json

    def say(self, line: str) -> None:
        """A line of the result, for people; nothing with `--json`."""
        if not self.as_json:
            print(line, file=self._output, flush=True)

    def answer(self, document: Mapping[str, object]) -> None:
        """The result, for programs; nothing without `--json`."""
        if self.as_json:
            print(jsonio.encode(document).decode(), file=self._output, flush=True)

    def note(self, line: str) -> None:
        """Something that a person should know beside the result; nothing with `--json`."""
        if not self.as_json:
            print(line, file=self._errors, flush=True)

    def fail(self, message: str) -> None:
        """Why there is no result: one line."""
        line = jsonio.encode({"error": message}).decode() if self.as_json else f"tollway: {message}"
        print(line, file=self._errors, flush=True)

    def progress(self, line: str) -> None:
        """How far it is, in place of the line before; an empty one takes it away. On a terminal alone."""
        if not self.as_json and self._errors.isatty():
            print(f"\r{line}\x1b[K", end="", file=self._errors, flush=True)

    def table(self, headings: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> None:
        """Rows in aligned columns; `right` are the places of those that are aligned at their end."""
        widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
        for row in (headings, *rows):
            cells = [
                cell.rjust(width) if place in right else cell.ljust(width)
                for place, (cell, width) in enumerate(zip(row, widths, strict=True))
            ]
            self.say("  ".join(cells).rstrip())
