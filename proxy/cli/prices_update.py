"""`tollway prices update`: files of prices from a newer table, as a diff that can be reviewed."""

import re
import zipfile
from argparse import Namespace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from proxy.adapters.price_files import names_in, read_price_files, replace_price_files
from proxy.cli.prices import price_folder, refuse_prices
from proxy.cli.terminal import EXIT_OK, CommandFailed, Terminal
from proxy.core import jsonio
from proxy.core.clock import Clock
from proxy.core.errors import InvalidJson
from proxy.pricing.catalog import parse_catalog
from proxy.pricing.convert import Converted, convert
from proxy.pricing.problem import PriceError, PriceProblem
from proxy.pricing.writer import encode, merge

TABLE_NAME = "model_prices_and_context_window_backup.json"
TABLE_BYTES_MAX = 67_108_864
_WHEEL_VERSION = re.compile(r"litellm-([0-9][^-]*)-")
_HEADINGS = ("PROVIDER", "MODELS", "NEW", "PRICE CHANGED", "NO LONGER LISTED")


def update_prices(arguments: Namespace, terminal: Terminal, clock: Clock) -> int:
    """Convert a table, hold it against the files, and replace them: all, or none of them."""
    raw, source = _table(arguments.source)
    try:
        table = jsonio.parse(raw)
    except InvalidJson:
        raise CommandFailed(f"{source} is not JSON.") from None
    if not isinstance(table, dict):
        raise CommandFailed(f"{source} is not a table of prices: one JSON object, a member for each model.")
    day = datetime.fromtimestamp(clock.now_ms() / 1_000, UTC).date().isoformat()
    converted = convert(table, source=f"{source}: {TABLE_NAME}", taken_on=day)
    folder = price_folder(arguments)
    old = _old(folder)
    problems = [*converted.problems, *_lost(old, converted, keep=arguments.keep_lost)]
    if problems:
        return refuse_prices(PriceError(tuple(problems)), terminal)
    merged = {name: merge(old.get(name), document) for name, document in converted.documents.items()}
    texts = {name: encode(document) for name, document in merged.items()}
    try:
        parse_catalog(texts)
    except PriceError as error:
        return refuse_prices(error, terminal)
    changed = {name: text for name, text in texts.items() if name not in old or encode(old[name]) != text}
    if changed:
        replace_price_files(folder, changed)
    _report(old, converted, merged, folder, changed, terminal)
    return EXIT_OK


def _table(named: str | None) -> tuple[bytes, str]:
    """The table's text, and what to call it: from a wheel or a JSON file, else from the installed package."""
    try:
        return _read_table(named)
    except OSError as error:
        raise CommandFailed(f"cannot read {error.filename}: {error.strerror}") from None
    except zipfile.BadZipFile:
        raise CommandFailed(f"{named} is not a wheel: download it again.") from None


def _read_table(named: str | None) -> tuple[bytes, str]:
    if named is None:
        found = find_spec("litellm")  # which does not import it
        if found is None or found.origin is None:
            raise CommandFailed(
                "no table: install tollway[prices], or name a downloaded litellm wheel with --from. "
                "`pip download --no-deps litellm` brings one."
            )
        path = Path(found.origin).parent / TABLE_NAME
        try:
            name = f"LiteLLM {version('litellm')}"
        except PackageNotFoundError:
            name = "LiteLLM"
        return _bounded(path.read_bytes(), path), name
    path = Path(named)
    if path.suffix != ".whl":
        return _bounded(path.read_bytes(), path), path.name
    match = _WHEEL_VERSION.match(path.name)
    with zipfile.ZipFile(path) as wheel:
        members = [member for member in wheel.infolist() if member.filename.endswith(TABLE_NAME)]
        if not members or members[0].file_size > TABLE_BYTES_MAX:
            raise CommandFailed(f"{path} holds no table of prices.")
        return wheel.read(members[0]), f"LiteLLM {match[1]}" if match else "LiteLLM"


def _bounded(raw: bytes, path: Path) -> bytes:
    if len(raw) > TABLE_BYTES_MAX:
        raise CommandFailed(f"{path} is larger than any table of prices.")
    return raw


def _old(folder: Path) -> dict[str, dict[str, Any]]:
    """The files as they are; they have to be good, or a change could not be told."""
    if not folder.is_dir():
        return {}
    texts = read_price_files(folder, names_in(folder))
    parse_catalog(texts)
    return {name: jsonio.parse(text) for name, text in texts.items()}


def _lost(old: dict[str, dict[str, Any]], converted: Converted, *, keep: bool) -> list[PriceProblem]:
    """What had a price and has none now, though the table still has its provider: a table with
    holes. A model that the table does not list at all any more keeps its last price."""
    problems = []
    for name, document in old.items():
        if name == "simulated":
            continue
        if name not in converted.documents:
            problems.append(PriceProblem(name, "prices of this provider", "none in the table"))
        elif not keep:
            left_out = {each.rpartition("/")[2] for each in converted.left_out} | converted.left_out.keys()
            for model in sorted(document["models"].keys() - converted.documents[name]["models"].keys()):
                if model in left_out:
                    problems.append(PriceProblem(f"{name}.{model}", "a price, as before", "an entry without one"))
    return problems


def _report(
    old: dict[str, dict[str, Any]],
    converted: Converted,
    merged: dict[str, dict[str, Any]],
    folder: Path,
    changed: dict[str, bytes],
    terminal: Terminal,
) -> None:
    rows = []
    for name, document in sorted(merged.items()):
        before = old.get(name, {}).get("models", {})
        after, listed = document["models"], converted.documents[name]["models"]
        repriced = [
            model for model in before.keys() & after.keys() if before[model]["prices"] != after[model]["prices"]
        ]
        rows.append(
            (name, len(after), len(after.keys() - before.keys()), len(repriced), len(after.keys() - listed.keys()))
        )
    terminal.answer(
        {
            "folder": str(folder),
            "written": sorted(changed),
            "providers": [
                dict(zip(("provider", "models", "new", "price_changed", "no_longer_listed"), row, strict=True))
                for row in rows
            ],
            "left_out": converted.left_out,
        }
    )
    terminal.table(_HEADINGS, [tuple(map(str, row)) for row in rows])
    written = f"{len(changed)} files written to {folder}: review the diff." if changed else "Nothing has changed."
    terminal.note(f"{written} {len(converted.left_out)} entries of the table have no usable price and were not taken.")
