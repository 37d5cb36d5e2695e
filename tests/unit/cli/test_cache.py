"""`tollway cache stats` and `cache purge` as they are typed, with the real composition beside SQLite files."""

import asyncio
import io
import json
import sqlite3
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from proxy import app
from proxy.__main__ import main
from proxy.cache.entry import CacheEntry, EntryHead, pack
from proxy.core.clock import Clock
from proxy.core.errors import StateIncompatible, StateUnavailable
from proxy.identity.tenant import TenantRecord
from proxy.ledger.entry import SealedRow
from proxy.settings.model import Settings, StateSettings
from tests.cli_result import Result, Screen, begin_state

HOUR_MS = 3_600_000
AWAY = StateUnavailable("The gateway's state store did not answer in time. Try again shortly.")
NEWER = StateIncompatible("The state file was written by a newer release of Tollway. Name another in [state] url.")
IN_MEMORY_ALONE = "answers are kept in each gateway's memory alone: its metrics say how much. [state] cache_url names a"


class FailingStore:
    """One that fails when it is asked for a list, or to delete."""

    def __init__(self, store, error, *, at):
        self._store = store
        self._error = error
        self._at = at

    async def entries(self, tenant):
        if self._at == "entries":
            raise self._error
        async for page in self._store.entries(tenant):
            yield page

    async def drop(self, tenant, names):
        if self._at == "second drop" and tenant != "zoo":
            return await self._store.drop(tenant, names)
        raise self._error

    async def close(self):
        await self._store.close()


class Bench:
    """One state folder, and commands run against it."""

    def __init__(self, folder):
        self.folder = folder / "state"
        begin_state(self.folder)
        self.path = folder / "t.toml"
        self.settings = Settings(state=StateSettings(folder=self.folder))
        self.failing: Any = None  # an error of the store of kept answers, and at what
        self.write()

    def write(self, state="", rest=""):
        self.path.write_text(f'[state]\nfolder = "{self.folder}"\n{state}\n{rest}')

    def run(self, *words, screen=None):
        output, errors = io.StringIO(), screen or io.StringIO()
        composition = app if self.failing is None else SimpleNamespace(open_stores=self._failing_stores)
        typed = ["cache", *words, "--config", str(self.path)]
        code = main(typed, environ={}, output=output, errors=errors, composition=composition)
        return Result(code, output.getvalue(), errors.getvalue())

    def keep(self, tenant, alias="gpt-5", *, age_ms=1_000, name="a"):
        head = EntryHead(alias, Clock().now_ms() - age_ms, None)
        entry = CacheEntry(head, b"c" * 32, (), b"answer", "openai/gpt-5", "openai", None, "gateway")
        self.beside(lambda stores: stores.cache.keep(tenant, name, None, b"".join(pack(entry, sealed=False)), HOUR_MS))

    def put(self, tenant):
        self.beside(lambda stores: stores.tenants.put(TenantRecord(tenant, created_at_ms=1, updated_at_ms=1)))

    def beside(self, step):
        async def steps():
            async with app.open_stores(self.settings) as stores:
                return await step(stores)

        return asyncio.run(steps())

    def kept(self):
        with closing(sqlite3.connect(self.folder / "cache.db")) as connection:
            return sorted(tenant for (tenant,) in connection.execute("SELECT tenant_id FROM cache_entries"))

    def marks(self):
        """For whom a purge holds, and of which model."""
        with closing(sqlite3.connect(self.folder / "tollway.db")) as connection:
            return set(connection.execute("SELECT tenant_id, alias FROM cache_purges"))

    @asynccontextmanager
    async def _failing_stores(self, settings):
        error, at = self.failing
        async with app.open_stores(settings) as stores:
            failing: Any = FailingStore(stores.cache, error, at=at)
            yield replace(stores, cache=failing)


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


# ── stats ────────────────────────────────────────────────────────────────────────────────


def test_what_is_kept_is_summed_up_by_tenant_and_model(bench):
    bench.keep("acme")
    bench.keep("acme", name="b", age_ms=HOUR_MS)
    bench.keep("zoo", "")
    heading, acme, zoo, total = (line.split() for line in bench.run("stats").out.splitlines())
    assert heading == ["TENANT", "MODEL", "ANSWERS", "BYTES", "OLDEST"]
    assert acme[:3] == ["acme", "gpt-5", "2"]
    assert zoo[:3] == ["zoo", "-", "1"]
    assert total[:2] == ["TOTAL", "3"]
    (group,) = bench.run("stats", "--tenant", "zoo", "--json").document["groups"]
    assert (group["model"], group["answers"]) == (None, 1)


def test_where_nothing_is_kept_that_is_said(bench):
    assert bench.run("stats") == Result(0, "", "Nothing is kept.\n")


@pytest.mark.parametrize("state", ['cache_url = "none"', 'url = "redis://nowhere.invalid"'])
def test_without_a_store_there_is_nothing_to_show(bench, state):
    bench.write(state)
    people, programs = bench.run("stats"), bench.run("stats", "--json")
    assert (people.code, people.out, programs.code, programs.out) == (2, "", 2, "")
    assert people.err.startswith(f"tollway: {IN_MEMORY_ALONE}")
    assert json.loads(programs.err)["error"].startswith(IN_MEMORY_ALONE)


def test_a_models_name_does_not_steer_the_terminal(bench):
    name = "gpt\x1b[2J\r\n\u202e5"
    bench.keep("acme", name)
    row = bench.run("stats").out.split("\n")[1]
    assert "gpt\ufffd[2J\ufffd\ufffd\ufffd5" in row
    assert bench.run("stats", "--json").document["groups"][0]["model"] == name
    purged = bench.run("purge", "--tenant", "acme", "--model", name).out
    assert " for calls that named gpt\ufffd[2J\ufffd\ufffd\ufffd5 before " in purged


# ── purge ────────────────────────────────────────────────────────────────────────────────


def test_a_purge_says_what_it_took(bench):
    bench.write(rest="[tenants.acme]\n[tenants.zoo]\n")
    for tenant in ("acme", "zoo"):
        bench.keep(tenant)
        bench.keep(tenant, "gpt-5-mini", name="b")
    result = bench.run("purge", "--tenant", "acme", "--model", "gpt-5")
    assert result.code == 0
    assert result.out.startswith("Purged what was kept of acme for calls that named gpt-5 before 2")
    assert result.out.endswith("Z, and deleted 1 answer.\n")
    assert (bench.kept(), bench.marks()) == (["acme", "zoo", "zoo"], {("acme", "gpt-5")})
    document = bench.run("purge", "--tenant", "acme", "--model", "gpt-5", "--json").document
    assert (document["tenants"], document["model"], document["deleted"]) == (["acme"], "gpt-5", 0)
    result = bench.run("purge", "--all")
    assert result.out.startswith("Purged what was kept of 3 tenants before 2")
    assert result.out.endswith("Z, and deleted 3 answers.\n")
    assert bench.kept() == []


def test_a_purge_of_one_tenant_that_is_all(bench):
    assert bench.run("purge", "--all").out.startswith("Purged what was kept of 1 tenant before ")


def test_only_what_is_older_is_purged(bench):
    bench.keep("acme", age_ms=2 * HOUR_MS)
    bench.keep("acme", name="b")
    assert bench.run("purge", "--tenant", "acme", "--older-than", "60m", "--json").document["deleted"] == 1
    assert bench.kept() == ["acme"]


def test_all_are_those_of_the_file_the_stores_the_ledger_and_the_answers(bench):
    bench.write(rest="[tenants.in-file]\n")
    bench.beside(lambda stores: stores.ledger.append([SealedRow("in-ledger", "r1", b'{"run_id":"r1"}')]))
    bench.keep("in-answers")
    bench.put("in-store")
    tenants = ["default", "in-answers", "in-file", "in-ledger", "in-store"]
    assert bench.run("purge", "--all", "--json").document["tenants"] == tenants
    assert bench.marks() == {(tenant, "") for tenant in tenants}


def test_a_tenant_that_nobody_knows_is_told(bench):
    bench.keep("acme")
    people, programs = bench.run("purge", "--tenant", "acmf"), bench.run("purge", "--tenant", "acmf", "--json")
    said = "nobody has heard of a tenant acmf. `tollway tenants list` shows them."
    assert people == Result(1, "", f"tollway: {said}\n")
    assert (programs.code, json.loads(programs.err)) == (1, {"error": said})
    assert (bench.kept(), bench.marks()) == (["acme"], set())


@pytest.mark.parametrize("where", ["file", "default", "store", "virtual keys", "ledger", "answers"])
def test_a_tenant_is_known_wherever_it_is_known(bench, where):
    tenant = "default" if where == "default" else "acme"
    if where == "file":
        bench.write(rest="[tenants.acme]\n")
    elif where == "ledger":
        bench.beside(lambda stores: stores.ledger.append([SealedRow("acme", "r1", b'{"run_id":"r1"}')]))
    elif where == "answers":
        bench.keep("acme")
    elif where == "store":
        bench.put("acme")
    elif where == "virtual keys":
        words = ["keys", "issue", "--tenant", "acme", "--config", str(bench.path)]
        main(words, environ={}, output=io.StringIO(), errors=io.StringIO())
    assert bench.run("purge", "--tenant", tenant).code == 0
    assert bench.marks() == {(tenant, "")}


def test_without_a_store_a_purge_holds_and_deletes_nothing(bench):
    bench.write('cache_url = "none"', "[tenants.acme]\n")
    result = bench.run("purge", "--tenant", "acme")
    assert (result.code, result.err) == (0, "")
    assert "deleted" not in result.out
    assert bench.marks() == {("acme", "")}


def test_a_purge_of_a_model_that_is_not_there_says_so(bench):
    bench.write(
        rest='[providers.p]\ntransport = "simulated"\n[models.gpt-5]\n'
        'deployments = [{ provider = "p", model = "simulated" }]\n[tenants.acme]\n'
    )
    missing = bench.run("purge", "--all", "--model", "gpt-6")
    assert missing.code == 0
    assert missing.err == (
        'Note: the configuration has no model gpt-6, and no answer of it was found. Did you mean "gpt-5"?\n'
    )
    assert bench.run("purge", "--all", "--model", "gpt-5").err == ""
    assert bench.run("purge", "--all", "--model", "zoo").err.endswith("`tollway models list` shows them.\n")


def test_a_purge_of_a_model_that_was_taken_out_needs_no_note(bench):
    bench.keep("acme")
    (alias,) = {each["model"] for each in bench.run("stats", "--json").document["groups"]}
    assert bench.run("purge", "--tenant", "acme", "--model", alias).err == ""


def test_a_model_has_a_name(bench, capsys):
    """An empty one would be every model's mark."""
    with pytest.raises(SystemExit) as ended:
        bench.run("purge", "--all", "--model", "")
    assert ended.value.code == 2
    assert "write a model's name" in capsys.readouterr().err


# ── where the store fails ────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (AWAY, "the store of kept answers did not answer in time. Try again shortly."),
        (NEWER, "another release of Tollway keeps its answers there. Start that one, or name another place in"),
    ],
)
def test_it_is_named_and_not_the_state_store(bench, error, said):
    bench.failing = error, "entries"
    result = bench.run("stats")
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith(f"tollway: sqlite:cache.db: {said}")
    assert "state" not in result.err


@pytest.mark.parametrize(("at", "deleted"), [("entries", "0 answers"), ("second drop", "1 answer")])
def test_a_purge_whose_deleting_breaks_off_holds_and_says_so(bench, at, deleted):
    bench.write(rest="[tenants.acme]\n[tenants.zoo]\n")
    bench.keep("acme")
    bench.keep("zoo")
    bench.failing = AWAY, at
    result = bench.run("purge", "--all")
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("tollway: the purge holds: what was kept of 3 tenants before 2")
    assert f"is given to nobody. Deleting it broke off after {deleted}, and is all that is left to do" in result.err
    assert result.err.endswith(
        "(sqlite:cache.db: the store of kept answers did not answer in time. Try again shortly.)\n"
    )
    assert bench.marks() == {("acme", ""), ("default", ""), ("zoo", "")}


def test_nobody_can_be_called_unknown_while_the_store_is_away(bench):
    bench.failing = AWAY, "entries"
    result = bench.run("purge", "--tenant", "acme")
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("tollway: the purge holds: what was kept of acme before 2")
    assert bench.marks() == {("acme", "")}


def test_a_state_store_that_is_away_is_told_as_itself(bench):
    async def purge(tenant, alias, before_ms):
        raise AWAY

    @asynccontextmanager
    async def stores_of(settings):
        async with app.open_stores(settings) as stores:
            yield replace(stores, cache_book=SimpleNamespace(purge=purge))

    bench.keep("acme")
    bench._failing_stores, bench.failing = stores_of, True
    result = bench.run("purge", "--tenant", "acme")
    assert (result.code, result.err) == (1, f"tollway: sqlite:tollway.db: {AWAY.message}\n")
    assert bench.kept() == ["acme"]


# ── progress ─────────────────────────────────────────────────────────────────────────────


def test_a_long_one_shows_how_far_it_is_on_a_terminal_alone(bench, monkeypatch):
    monkeypatch.setattr("proxy.cli.progress.SILENT_US", 0)
    bench.keep("acme")
    bench.keep("acme", name="b")
    stats = bench.run("stats", screen=Screen())
    assert "\r2 answers seen\x1b[K" in stats.err
    assert stats.err.endswith("\r\x1b[K")
    purge = bench.run("purge", "--all", screen=Screen())
    assert "\r1 tenants seen to\x1b[K" in purge.err
    assert "\r2 answers seen\x1b[K" in purge.err
    assert purge.err.endswith("\r\x1b[K")
    assert bench.run("purge", "--all").err == bench.run("purge", "--all", "--json", screen=Screen()).err == ""


def test_a_line_of_progress_is_gone_before_a_failure_is_told(bench, monkeypatch):
    monkeypatch.setattr("proxy.cli.progress.SILENT_US", 0)
    bench.failing = AWAY, "entries"
    for words in (["stats"], ["purge", "--all"]):
        assert "\r\x1b[Ktollway: " in bench.run(*words, screen=Screen()).err
