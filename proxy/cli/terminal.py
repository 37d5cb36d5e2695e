"""Where commands write: results on standard output, everything else on standard error; and what they ask.

With `--json` a result is one JSON object on one line, and so is a failure.
"""

import getpass
from collections.abc import Collection, Mapping, Sequence
from typing import Final, TextIO

from proxy.core import jsonio
from proxy.core.secret import Secret

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells count
EXIT_UNREAD = 141  # 128 + SIGPIPE, likewise

SECRET_CHARS_MAX: Final = 65_536


class CommandFailed(Exception):
    """The command cannot do what it was asked; the message says what to do about it."""

    def __init__(self, message: str, *, exit_code: int = EXIT_FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code


class NobodyReads(Exception):
    """Standard output was closed by whoever read it, as `head` does when it has enough."""


class Terminal:
    """The streams of one command."""

    __slots__ = ("_errors", "_output", "_typed", "as_json")

    def __init__(self, output: TextIO, errors: TextIO, as_json: bool, typed: TextIO) -> None:
        self._typed = typed
        self._output = output
        self._errors = errors
        self.as_json = as_json

    def say(self, line: str) -> None:
        """A line of the result, for people; nothing with `--json`."""
        if not self.as_json:
            self._put(line)

    def answer(self, document: Mapping[str, object]) -> None:
        """The result, for programs; nothing without `--json`."""
        if self.as_json:
            self._put(jsonio.encode(document).decode())

    def _put(self, line: str) -> None:
        try:
            print(line, file=self._output, flush=True)
        except BrokenPipeError:
            raise NobodyReads from None

    def note(self, line: str) -> None:
        """Something that a person should know beside the result; nothing with `--json`."""
        if not self.as_json:
            print(line, file=self._errors, flush=True)

    def fail(self, message: str) -> None:
        """Why there is no result: one line."""
        line = jsonio.encode({"error": message}).decode() if self.as_json else f"tollway: {message}"
        print(line, file=self._errors, flush=True)

    def ask_secret(self, prompt: str) -> Secret:
        """A secret: typed without being seen on a terminal, else all of standard input, less one line's end.

        Raises:
            CommandFailed: there is none, or more than one line.
        """
        try:
            if self._typed.isatty():
                text = getpass.getpass(prompt, self._errors)
            else:
                text = self._typed.read(SECRET_CHARS_MAX)
        except (EOFError, UnicodeDecodeError):
            text = ""
        text = text.removesuffix("\n").removesuffix("\r")
        if not text:
            message = "no provider key was given. Type it when asked, or give it on standard input: … < FILE"
            raise CommandFailed(message, exit_code=EXIT_USAGE)
        if "\n" in text or "\r" in text:
            message = "standard input has more than one line. Give the provider key alone."
            raise CommandFailed(message, exit_code=EXIT_USAGE)
        return Secret(text)

    def ask(self, prompt: str) -> str | None:
        """A line that a person types; None where nobody can: standard input is no terminal."""
        if not self._typed.isatty():
            return None
        print(prompt, end="", file=self._errors, flush=True)
        return self._typed.readline().strip()

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


def counted(count: int, noun: str) -> str:
    """So many of them: "1 row", "2,000 rows"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
