"""Reads one TOML table, value by value, and keeps every problem instead of stopping at the first.

A value that cannot be read is reported and stands in as its default, so that reading goes on;
no settings are made from a document with problems. What was read is known; what is left is not.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import TypeAlias, TypeVar

from proxy.core.money import USD_DECIMALS_MAX, nusd_of, usd_text
from proxy.settings.problem import Problem, element, member
from proxy.settings.suggest import did_you_mean
from proxy.settings.values import Mismatch

Table: TypeAlias = Mapping[str, object]
Value = TypeVar("Value")
Default = TypeVar("Default")
Choice = TypeVar("Choice", bound=StrEnum)

FILE_VALUE_CHARS_MAX = 65_536
_TEXT_SHOWN_CHARS_MAX = 64
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_REFERENCES = ("env:", "env?:", "file:")
# A provider key that was pasted into the wrong line must not be printed because of that.
_LOOKS_SECRET = re.compile(r"(sk|twk|gsk|xai|ghp|pk|rk|key)[-_]|AIza|Bearer ", re.IGNORECASE)


class Source:
    """Where values come from besides the document, and what was found to be wrong so far."""

    __slots__ = ("_environ", "_folder", "_read_file", "problems", "warnings")

    def __init__(self, folder: Path, environ: Mapping[str, str], read_file: Callable[[Path], str]) -> None:
        self._folder = folder
        self._environ = environ
        self._read_file = read_file
        self.problems: list[Problem] = []
        self.warnings: list[str] = []

    def report(self, path: str, expected: str, found: str, suggestion: str | None = None) -> None:
        """Note a problem and go on."""
        self.problems.append(Problem(path, expected, found, suggestion))

    def is_sound(self, *paths: str) -> bool:
        """True where nothing is wrong with these values themselves, so that they can be compared."""
        return all(problem.path not in paths for problem in self.problems)

    def located(self, path: str) -> Path:
        """A path of the document's; a relative one begins at the document's folder."""
        return self._folder / path

    def file_text(self, path: str) -> str:
        """The text of a file that the document names. Raises Mismatch."""
        located = self.located(path)
        try:
            text = self._read_file(located)
        except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a NUL in the path
            reason = (error.strerror or "it cannot be read") if isinstance(error, OSError) else "it is not UTF-8 text"
            raise Mismatch(f"a file that can be read at {str(located)!r}", found=f"none ({reason})") from None
        if len(text) > FILE_VALUE_CHARS_MAX:
            raise Mismatch(
                f"a file of at most {FILE_VALUE_CHARS_MAX} characters", found=f"a larger one at {str(located)!r}"
            )
        return text

    def resolve(self, text: str) -> str | None:
        """The value itself, or what `env:`, `env?:` or `file:` refers to; None where absent. Raises Mismatch."""
        if text.startswith("file:"):
            path = text.removeprefix("file:")
            if not path:
                raise Mismatch("a path after `file:`", found="none")
            return self.file_text(path).removesuffix("\n").removesuffix("\r")
        if not text.startswith(("env:", "env?:")):
            return text
        reference, _, name = text.partition(":")
        if _ENV_NAME.fullmatch(name) is None:
            raise Mismatch(f"the name of an environment variable after `{reference}:`", found="a text that is none")
        value = self._environ.get(name, "")
        if value:
            return value
        if reference == "env?":
            return None
        state = "empty" if name in self._environ else "not set"
        suggestion = f'Set {name}, or write "env?:{name}" if it may be absent.'
        raise Mismatch(f"the environment variable {name}", found=f"that it is {state}", suggestion=suggestion)


class Reader:
    """One table of the document, at one path. Every read names a known member; `close` refuses the others."""

    __slots__ = ("_known", "_named", "_source", "_table", "path")

    def __init__(self, table: Table, path: str, source: Source) -> None:
        self._named: tuple[str, str] | None = None  # a name that the operator chose, and the path of what it is in
        self._table = table
        self._source = source
        self._known: list[str] = []
        self.path = path

    def has(self, name: str) -> bool:
        """True if the document writes this member."""
        return name in self._table

    def text(
        self,
        name: str,
        parse: Callable[[str], Value],
        default: Default,
        *,
        required: str | None = None,
        secret: bool = False,
        referred: bool = False,
    ) -> Value | Default:
        """A text's parsed value. `required` says what is expected where it is absent; `referred`: it must
        not stand in the document itself."""
        raw = self._take(name)
        where = member(self.path, name)
        if referred and isinstance(raw, str) and not raw.startswith(_REFERENCES):
            self._source.report(where, '"env:NAME" or "file:PATH"', "the text itself (not shown)")
            return default
        value = None if raw is None else self._parsed(raw, where, parse, secret)
        if value is not None:
            return value
        if required is not None and self._source.is_sound(where):
            self._source.report(where, required, "nothing" if raw is None else f"{raw}, which is not set")
        return default

    def texts(
        self, name: str, parse: Callable[[str], Value], default: Default, *, secret: bool = False
    ) -> tuple[Value, ...] | Default:
        """A list of texts, each parsed. An element that refers to something absent is left out."""
        raw = self._take(name)
        where = member(self.path, name)
        if raw is None:
            return default
        if not isinstance(raw, list):
            self._source.report(where, "a list of texts", kind_of(raw))
            return default
        values = (self._parsed(item, element(where, index), parse, secret) for index, item in enumerate(raw))
        return tuple(value for value in values if value is not None)

    def written(self, name: str, parse: Callable[[str], Value], default: Default) -> tuple[Value, ...] | Default:
        """A text or a list of texts, each parsed as it is written: a reference is the parser's to follow."""
        raw = self._take(name)
        where = member(self.path, name)
        if raw is None:
            return default
        if not isinstance(raw, str | list):
            self._source.report(where, "a text or a list of texts", kind_of(raw))
            return default
        items = [(where, raw)] if isinstance(raw, str) else [(element(where, i), item) for i, item in enumerate(raw)]
        values: list[Value] = []
        for place, item in items:
            try:
                if not isinstance(item, str):
                    raise Mismatch("a text", found=kind_of(item))
                values.append(parse(item))
            except Mismatch as mismatch:
                found = shown(item, secret=True) if mismatch.found is None else mismatch.found
                self._source.report(place, mismatch.expected, found, mismatch.suggestion)
        return tuple(values)

    def choice(self, name: str, choices: type[Choice], default: Choice, *, required: bool = False) -> Choice:
        """One of a closed set of texts."""
        names = [str(choice) for choice in choices]

        def parse(text: str) -> Choice:
            try:
                return choices(text)
            except ValueError:
                raise Mismatch(_one_of(names), suggestion=did_you_mean(text, names)) from None

        return self.text(name, parse, default, required=_one_of(names) if required else None)

    def flag(self, name: str, default: Default) -> bool | Default:
        """true or false."""
        raw = self._take(name)
        if raw is None or isinstance(raw, bool):
            return default if raw is None else raw
        self._source.report(member(self.path, name), "true or false", kind_of(raw))
        return default

    def integer(self, name: str, default: Default, minimum: int, maximum: int) -> int | Default:
        """A whole number within bounds. A bool is none."""
        raw = self._take(name)
        if raw is None:
            return default
        if isinstance(raw, int) and not isinstance(raw, bool) and minimum <= raw <= maximum:
            return raw
        expected = f"the number {minimum}" if minimum == maximum else f"a whole number from {minimum} to {maximum}"
        self._source.report(member(self.path, name), expected, shown(raw, secret=isinstance(raw, str)))
        return default

    def seconds(self, name: str, default: Default, maximum_s: float, *, or_zero: bool = False) -> float | Default:
        """A number of seconds above 0, or 0 too with `or_zero`. A bool is none, nor is nan or inf."""
        raw = self._take(name)
        if raw is None:
            return default
        number = float(raw) if isinstance(raw, Decimal) else raw
        if isinstance(number, int | float) and not isinstance(number, bool) and 0 <= number <= maximum_s:
            seconds = float(number)
            if seconds or or_zero:
                return seconds
        expected = f"a number of seconds {'from 0 to' if or_zero else 'above 0, at most'} {maximum_s:g}"
        self._source.report(member(self.path, name), expected, shown(raw, secret=isinstance(raw, str)))
        return default

    def dollars(self, name: str, default: Default, maximum_nusd: int, *, required: bool = False) -> int | Default:
        """An amount of dollars, in nano-dollars; exactly, so one with more decimals is refused."""
        raw = self._take(name)
        if raw is None and not required:
            return default
        nusd = _nusd(raw)
        if nusd is not None and nusd <= maximum_nusd:
            return nusd
        bound = usd_text(maximum_nusd).removesuffix(".00")
        expected = f"dollars from 0 to {bound}, with at most {USD_DECIMALS_MAX} decimals"
        found = "nothing" if raw is None else shown(raw, secret=isinstance(raw, str))
        self._source.report(member(self.path, name), expected, found)
        return default

    def table(self, name: str) -> "Reader":
        """A member that is a table; an empty one where it is absent."""
        raw = self._take(name)
        where = member(self.path, name)
        if raw is None or isinstance(raw, dict):
            return Reader({} if raw is None else raw, where, self._source)
        self._source.report(where, "a table", kind_of(raw))
        return Reader({}, where, self._source)

    def table_if_any(self, name: str) -> "Reader | None":
        """A member that is a table; None where it is absent, or reported as none."""
        is_table = isinstance(self._table.get(name), dict)
        table = self.table(name)
        return table if is_table else None

    def tables(self, name: str, *, required: bool = True) -> "list[Reader]":
        """A member that is a list of tables: of at least one, where it is required."""
        raw = self._take(name)
        if not required and (raw is None or raw == []):
            return []
        where = member(self.path, name)
        if not isinstance(raw, list) or not raw:
            found = "nothing" if raw is None else "an empty list" if raw == [] else kind_of(raw)
            self._source.report(where, "a list of at least one table", found)
            return []
        readers: list[Reader] = []
        for index, item in enumerate(raw):
            if isinstance(item, dict):
                readers.append(Reader(item, element(where, index), self._source))
            else:
                self._source.report(element(where, index), "a table", kind_of(item))
        return readers

    def names(self) -> tuple[str, ...]:
        """Every member that the document writes, whether it can be read or not."""
        return tuple(self._table)

    def named_tables(self, parse_name: Callable[[str], str]) -> "Iterator[tuple[str, Reader]]":
        """All members, each a table whose name the operator chose."""
        for name, raw in self._table.items():
            reader = self.table(name)
            if not isinstance(raw, dict):
                continue
            reader._named = (name, self.path)
            try:
                parse_name(name)
            except Mismatch as mismatch:
                self._source.report(reader.path, mismatch.expected, "another name", mismatch.suggestion)
            yield name, reader

    def close(self) -> None:
        """Refuse every member that nothing asked for: a setting that is ignored would be a lie."""
        for name in self._table:
            if name not in self._known:
                suggestion = did_you_mean(name, self._known) or self._in_quotes(name)
                expected = _one_of(self._known) if self._known else "nothing here"
                self._source.report(member(self.path, name), expected, "an unknown name", suggestion)

    def _in_quotes(self, name: str) -> str | None:
        """`[models.gpt-4.1]` is a table `1` in a table `gpt-4`: what was meant is most likely one name."""
        parts, inner = [name], self._table[name]
        if self._named is None or not isinstance(inner, dict):
            return None
        while len(inner) == 1 and isinstance(following := next(iter(inner.values())), dict):
            parts.append(next(iter(inner)))
            inner = following
        chosen, where = self._named
        return f"A name with a dot stands in quotes: [{member(where, '.'.join([chosen, *parts]))}]."

    def _take(self, name: str) -> object:
        self._known.append(name)
        return self._table.get(name)

    def _parsed(self, raw: object, where: str, parse: Callable[[str], Value], secret: bool) -> Value | None:
        """The parsed value; None where it is absent, or reported."""
        if not isinstance(raw, str):
            self._source.report(where, "a text", kind_of(raw))
            return None
        try:
            text = self._source.resolve(raw)
            value = None if text is None else parse(text)
        except Mismatch as mismatch:
            found = shown(raw, secret) if mismatch.found is None else mismatch.found
            self._source.report(where, mismatch.expected, found, mismatch.suggestion)
            return None
        if secret and value is not None and not raw.startswith(_REFERENCES):
            told = f"{where} stands in the file as plain text: whoever reads the file has it"
            self._source.warnings.append(f'{told}. Write "env:NAME" or "file:PATH".')
        return value


def kind_of(raw: object) -> str:
    """What kind of TOML value this is, and nothing of the value."""
    kinds = {bool: "true or false", int: "a whole number", Decimal: "a number", str: "a text", list: "a list"}
    return kinds.get(type(raw), "a table" if isinstance(raw, dict) else "a date or time")


def shown(raw: object, secret: bool = False) -> str:
    """The value as a problem may show it: no secret, nothing that was resolved, nothing long."""
    if isinstance(raw, bool):
        return "true" if raw else "false"
    if isinstance(raw, int | Decimal):
        digits = _decimal_shown(raw) if isinstance(raw, Decimal) else str(raw) if abs(raw) < 10**18 else "a huge one"
        return kind_of(raw) if secret else digits
    if not isinstance(raw, str):
        return kind_of(raw)
    if raw.startswith(_REFERENCES):
        reference, _, name = raw.partition(":")
        known = reference == "file" or _ENV_NAME.fullmatch(name) is not None
        return f"something else in {raw[:_TEXT_SHOWN_CHARS_MAX]!r} (not shown)" if known else "a text (not shown)"
    if secret or len(raw) > _TEXT_SHOWN_CHARS_MAX or _LOOKS_SECRET.match(raw):
        return "a text (not shown)"
    return repr(raw)


def _nusd(raw: object) -> int | None:
    if isinstance(raw, bool) or not isinstance(raw, int | Decimal):
        return None
    try:
        return nusd_of(Decimal(raw))
    except ValueError:
        return None


def _decimal_shown(raw: Decimal) -> str:
    text = f"{raw:g}"
    return text.lower() if len(text) <= _TEXT_SHOWN_CHARS_MAX else "a number with many digits"


def _one_of(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"one of {', '.join(names)}"
