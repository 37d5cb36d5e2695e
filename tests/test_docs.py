"""The documents say what the code does: links, settings, errors, metrics and commands.

A page that does not exist yet is not tested; from the day it does, it has to be whole.
`make docs` writes the help texts in docs/commands.md again.
"""

import io
import os
import re
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import fields
from pathlib import Path
from unittest import mock

import pytest

import proxy.core.admin_errors
import proxy.core.errors
from proxy.cache import fingerprint
from proxy.cli.arguments import parse_arguments
from proxy.core.errors import GatewayError
from proxy.core.limits import CAPS, ScopeLimits
from proxy.ledger.entry import Entry
from proxy.settings import caching, model, routing

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md")])

# Settings' fields that no file sets: names that stand in a table's own heading, and what is derived.
UNWRITTEN = {
    *(("providers", "name"), ("providers", "provider_key_wanted")),
    *(("models", "alias"), ("plans", "name"), ("tenants", "id")),
}
SECTIONS = {
    "server": model.ServerSettings,
    "state": model.StateSettings,
    "auth": model.AuthSettings,
    "providers": model.ProviderSettings,
    "models": routing.ModelSettings,
    "plans": model.PlanSettings,
    "tenants": model.TenantSettings,
    "fallback": model.FallbackSettings,
    "ledger": model.LedgerSettings,
    "admin": model.AdminSettings,
    "keyring": model.KeyringSettings,
    "cache": caching.CacheSettings,
}
NESTED = {
    ("providers", "timeouts_s"): model.TimeoutSettings,
    ("models", "deployments"): routing.DeploymentSettings,
    ("models", "rules"): routing.RuleSettings,
    ("plans", "tenant"): ScopeLimits,
    ("admin", "tokens"): model.AdminTokenSettings,
    ("cache", "features"): caching.CachePolicy,
}
DERIVED_SECTIONS = {"version", "warnings"}


def page(name: str) -> str:
    path = DOCS / name
    if not path.exists():
        pytest.skip(f"docs/{name} is not written yet")
    return path.read_text()


def prose(text: str) -> str:
    """A page without its code blocks."""
    return re.sub(r"(?ms)^ *```.*?^ *```", "", text)


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    found: set[str] = set()
    for heading in re.findall(r"(?m)^#+ +(.+?) *$", prose(text)):
        words = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        found.add(next(each for each in (words, *(f"{words}-{n}" for n in range(1, 99))) if each not in found))
    return found


def broken_links(path: Path, text: str) -> Iterator[str]:
    for target in re.findall(r"\]\(([^)\s]+)[^)]*\)", prose(text)):
        if re.match(r"[a-z]+:", target):
            continue  # the network's business
        file, _, anchor = target.partition("#")
        reached = (path.parent / file).resolve() if file else path
        if reached != path and not reached.exists():
            yield f"{path.name} links to {target}, which is not there"
        elif anchor and anchor not in anchors(text if reached == path else reached.read_text()):
            yield f"{path.name} links to {target}, and no heading there has that anchor"


# ── links ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_resolve(path: Path) -> None:
    assert list(broken_links(path, path.read_text())) == []


def test_a_planted_broken_link_is_found() -> None:
    text = "# One\n[a](errors.md) [b](nowhere.md) [c](#one) [d](#two)\n```\n[e](in-code.md)\n```\n"
    assert len(list(broken_links(DOCS / "planted.md", text))) == 2


def test_every_page_is_in_the_index() -> None:
    index = page("README.md")
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")} - {"README.md"}
    assert {name for name in pages if f"]({name})" not in index} == set()


def test_every_make_command_that_is_named_exists() -> None:
    targets = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text()))
    named = {name for path in PAGES for name in re.findall(r"(?:`|\$ )make ([a-z-]+)", path.read_text())}
    assert named <= targets


# ── settings ─────────────────────────────────────────────────────────────────────────────


def settings_of(section: str) -> Iterator[str]:
    for field in fields(SECTIONS[section]):
        if (section, field.name) not in UNWRITTEN:
            yield field.name.replace("_nusd_", "_usd_")
            if (section, field.name) in NESTED:
                # In the file, caps are dollars.
                yield from (CAPS.get(nested.name, nested.name) for nested in fields(NESTED[section, field.name]))


def test_every_section_is_known_here() -> None:
    assert {field.name for field in fields(model.Settings)} == SECTIONS.keys() | DERIVED_SECTIONS


@pytest.mark.parametrize("section", SECTIONS)
def test_every_setting_is_documented(section: str) -> None:
    """Under a heading that names the section, in backticks or in an example."""
    parts = re.split(r"(?m)^#+ ", page("configuration.md"))
    about = "\n".join(part for part in parts if re.search(rf"\b{section}\b", part.split("\n", 1)[0]))
    assert about, f"no heading of docs/configuration.md names [{section}]"
    missing = [name for name in settings_of(section) if not re.search(rf"`(?:\S+\.)?{name}`|\b{name} *=", about)]
    assert not missing, f"not in docs/configuration.md under [{section}]: {', '.join(missing)}"


@pytest.mark.parametrize("section", SECTIONS)
def test_the_commented_example_writes_every_setting(section: str) -> None:
    path = ROOT / "config/production.toml"
    if not path.exists():
        pytest.skip("config/production.toml is not written yet")
    parts = re.split(r"(?m)^(?=# *\[|\[)", path.read_text())
    about = "\n".join(part for part in parts if re.match(rf"[#\[ ]+{section}\b", part))
    missing = [name for name in settings_of(section) if not re.search(rf"\b{name}(\]|\.| *=)", about)]
    assert not missing, f"not in config/production.toml under [{section}]: {', '.join(missing)}"


# ── errors ───────────────────────────────────────────────────────────────────────────────


def gateway_errors() -> set[tuple[str, str, str]]:
    stated = {**vars(proxy.core.errors), **vars(proxy.core.admin_errors)}
    classes = [each for each in stated.values() if isinstance(each, type)]
    found = {each for each in classes if issubclass(each, GatewayError) and each is not GatewayError}
    assert len(found) > 20, "the errors were not found"
    return {(each.code, str(each.status), each.source.value) for each in found}


def test_every_error_is_documented_and_nothing_else() -> None:
    rows = re.findall(r"(?m)^\| `(\w+)` \| (\d+) \| (\w+) \| [^|]+ \| [^|]+ \|$", page("errors.md"))
    assert sorted(rows) == sorted(gateway_errors())


def test_every_error_is_defined_in_one_place() -> None:
    """The table is made from these two: a code that is stated elsewhere would be missing from it."""
    stated = {ROOT / "proxy/core/errors.py", ROOT / "proxy/core/admin_errors.py"}
    for file in (ROOT / "proxy").rglob("*.py"):
        if file not in stated:
            assert not re.search(r"status, code, source *=|\bcode: ClassVar", file.read_text()), file


# ── metrics ──────────────────────────────────────────────────────────────────────────────


def test_every_metric_is_documented_and_nothing_else() -> None:
    sources = "\n".join(path.read_text() for path in sorted((ROOT / "proxy/telemetry").glob("*.py")))
    measured = set(re.findall(r"[\"'](tollway_\w+)[\"']", sources))
    assert measured, "no metric's name was found"
    # A row of the table names one; in prose and examples it may carry a histogram's suffix.
    text = page("metrics.md")
    assert set(re.findall(r"(?m)^\| `(tollway_\w+)`", text)) == measured
    named = {re.sub(r"_(bucket|count|sum)$", "", name) for name in re.findall(r"\btollway_\w+", text)}
    assert named <= measured


# ── rows ─────────────────────────────────────────────────────────────────────────────────


def test_every_field_of_a_row_is_documented_and_nothing_else() -> None:
    table = page("state.md").split("| Field | What it is |\n", 1)[1].split("\n\n", 1)[0]
    cells = re.findall(r"(?m)^\| (`[^|]+`) \|", table)
    assert [name for cell in cells for name in re.findall(r"`(\w+)`", cell)] == list(Entry.__annotations__)


# ── what does not tell calls apart ───────────────────────────────────────────────────────


def test_every_header_that_does_not_count_is_documented_and_nothing_else() -> None:
    row = re.search(r"(?m)^\| What says how a call is traced[^|]*\|([^|]+)\|$", page("cache.md"))
    assert row is not None
    whole, _, beginnings = row[1].partition("begins with")
    named, begun = (set(re.findall(r"`([a-z0-9-]+)`", part)) for part in (whole, beginnings))
    assert (named, begun) == ({name.decode() for name in fingerprint._NOISE}, {b.decode() for b in fingerprint._NOISY})


# ── commands ─────────────────────────────────────────────────────────────────────────────


def help_of(command: tuple[str, ...]) -> str:
    """What the command prints; in this process, because forty of their own take ten seconds."""
    printed = io.StringIO()
    with mock.patch.dict(os.environ, {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}), redirect_stdout(printed):
        with pytest.raises(SystemExit) as ended:
            parse_arguments([*command, "--help"])
    assert ended.value.code == 0
    return printed.getvalue().rstrip()


def commands_in(text: str) -> list[str]:
    """The commands that a help text lists, one a line."""
    listed = re.search(r"(?msi)^[\w ]*commands:\n(.*?)(?:\n\n|\Z)", text)
    return re.findall(r"(?m)^ {2,4}([a-z][a-z-]+)\b", listed[1]) if listed else []


def helps(command: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Each command's help text, and those of the commands below it."""
    text = help_of(command)
    yield command, text
    if len(command) < 2:  # noun, verb
        for name in commands_in(text):
            yield from helps((*command, name))


def commands_page() -> str:
    blocks = []
    for command, text in helps():
        name = " ".join(("tollway", *command))
        blocks.append(f"## {name}\n\n```console\n$ {name} --help\n{text}\n```\n")
    head = (
        "# Commands\n\nWhat each command says of itself. `make docs` writes this page; a test holds it to the truth. "
        "In a checkout\n`tollway` is `.venv/bin/tollway`.\n"
    )
    return "\n".join([head, *blocks])


def test_the_help_texts_are_the_real_ones() -> None:
    if not (ROOT / "proxy/__main__.py").exists():
        pytest.skip("there is no command yet")
    assert (DOCS / "commands.md").exists(), "`make docs` writes docs/commands.md"
    written, real = page("commands.md"), commands_page()
    if sys.version_info >= (3, 13):  # lays out the same words in other columns
        written, real = " ".join(written.split()), " ".join(real.split())
    assert written == real, "`make docs` writes docs/commands.md again"


def test_the_commands_of_a_help_text_are_found() -> None:
    assert commands_in(
        "commands:\n  COMMAND\n    serve    start\n    check    read it,\n             whole\n\noptions:\n  --json\n"
    ) == [
        "serve",
        "check",
    ]
    assert commands_in("usage: tollway serve [-h] {a,b}\n\noptions:\n  --json\n") == []


if __name__ == "__main__":
    (DOCS / "commands.md").write_text(commands_page())


# ── headers and log fields ───────────────────────────────────────────────────────────────


def test_every_header_of_the_gateways_own_is_documented() -> None:
    said = set()
    for file in ("proxy/pipeline/own_words.py", "proxy/edge/problems.py", "proxy/app/application.py"):
        said |= set(re.findall(r'b"(x-[a-z-]+|server-timing|retry-after(?:-ms)?)"', (ROOT / file).read_text()))
    assert "x-tollway-run-id" in said
    headers = page("answers.md").partition("## The access log")[0]
    assert {name for name in said if f"`{name}`" not in headers} == set()


def test_every_field_of_the_access_log_is_documented() -> None:
    source = (
        (ROOT / "proxy/pipeline/record.py").read_text().partition("def log_line")[2].partition("def refusal_line")[0]
    )
    fields = set(re.findall(r'^ {8}"(\w+)":', source, re.MULTILINE))
    assert "run_id" in fields
    table = page("answers.md").partition("## The access log")[2]
    assert {name for name in fields if f"`{name}`" not in table} == set()
