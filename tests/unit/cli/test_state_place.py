"""What a command does where no state is: typed in another folder, most likely."""

import asyncio
import io
import json
import logging

import pytest

from proxy.__main__ import main
from proxy.cli.state_place import READ_ONLY
from tests.cli_result import Result
from tests.redis_server import emptied

KEK = '[keyring]\nkek = "file:kek"\n'
NEEDS = {
    "provider-keys list": ("--tenant", "acme"),
    "models list": (),
}


class Bench:
    """A configuration whose folder is relative, and an empty folder in which commands are typed."""

    def __init__(self, tmp_path, monkeypatch):
        self.path = tmp_path / "t.toml"
        self.here = tmp_path / "elsewhere"
        self.here.mkdir()
        self.write("")
        monkeypatch.chdir(self.here)

    def write(self, state, rest=KEK):
        self.path.write_text(f'[state]\nfolder = ".tollway"\n{state}\n{rest}')

    def run(self, *words):
        output, errors = io.StringIO(), io.StringIO()
        code = main([*words, "--config", str(self.path)], environ={}, output=output, errors=errors)
        return Result(code, output.getvalue(), errors.getvalue())

    @property
    def made(self):
        return sorted(str(path.relative_to(self.here)) for path in self.here.rglob("*"))


@pytest.fixture
def bench(tmp_path, monkeypatch):
    return Bench(tmp_path, monkeypatch)


@pytest.mark.parametrize("command", sorted(READ_ONLY))
def test_a_command_that_only_reads_makes_nothing_and_says_where_it_looked(bench, command):
    words = (*command.split(), *NEEDS.get(command, ()))
    people, programs = bench.run(*words), bench.run(*words, "--json")
    said = (
        f"there is no state at {bench.here}/.tollway/tollway.db. A relative folder begins where a command was started: "
        "start it where the gateway was started, or write [state] folder in full. The first `tollway serve`, or "
        "`tollway keys issue`, makes it."
    )
    assert (people.code, people.out, people.err) == (1, "", f"tollway: {said}\n")
    assert (programs.code, programs.out, json.loads(programs.err)) == (1, "", {"error": said})
    assert bench.made == []


def test_a_command_that_makes_a_state_says_so_and_where(bench, caplog):
    first = bench.run("keys", "issue", "--tenant", "acme")
    assert first.code == 0
    assert first.err.endswith(
        f"made {bench.here}/.tollway/tollway.db: a new, empty state. A relative folder begins where a command was "
        "started.\n"
    )
    (told,) = [record for record in caplog.records if record.name == "tollway.identity"]
    assert told.levelno == logging.WARNING
    assert told.message.startswith(f"made {bench.here}/.tollway/pepper, the pepper under which virtual keys are issued")
    assert "Back it up" in told.message
    caplog.clear()
    again = bench.run("keys", "issue", "--tenant", "acme")
    assert (again.code, "made" in again.err, caplog.records) == (0, False, [])


def test_a_check_that_connects_says_what_it_made(bench):
    assert "a new, empty state" not in bench.run("check").err
    assert bench.made == []
    assert bench.run("check", "--connect").err.startswith(f"made {bench.here}/.tollway/tollway.db: a new, empty state")


def test_a_check_shows_the_folder_in_full(bench):
    assert f"\n  state      sqlite:tollway.db (folder {bench.here}/.tollway)\n" in bench.run("check").out


def test_peppers_are_not_made_to_be_shown(bench, redis_url):
    bench.write(f'url = "{redis_url}"')
    assert bench.run("keys", "peppers").err.startswith(f"tollway: there is no state at {bench.here}/.tollway/pepper. A")
    assert bench.made == []


@pytest.mark.parametrize("command", sorted(READ_ONLY - {"keys peppers", "keyring status", "cache stats"}))
def test_with_the_state_in_redis_reading_makes_no_folder_either(bench, redis_url, command):
    asyncio.run(emptied(redis_url))
    bench.write(f'url = "{redis_url}"')
    result = bench.run(*command.split(), *NEEDS.get(command, ()))
    assert result.code == 0, result.err
    assert bench.made == []
