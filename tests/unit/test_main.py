"""The `tollway` command as it is typed, beside a real SQLite store."""

import asyncio
import io
import json
import os
import socket
import subprocess
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest

from proxy.__main__ import main
from proxy.adapters.sqlite import SqliteDoor, sqlite_path
from proxy.adapters.sqlite_schema import CACHE_MIGRATIONS
from proxy.admission.embedded import EmbeddedAdmissionStore
from proxy.app.keyring import command_keyring
from proxy.cache.embedded import EmbeddedCacheBook, EmbeddedCacheStore
from proxy.core.clock import Clock
from proxy.core.errors import StateIncompatible, StateUnavailable
from proxy.identity.embedded import EmbeddedTenantStore, EmbeddedVirtualKeyStore
from proxy.identity.pepper import load_or_make_pepper, pepper_bytes
from proxy.identity.virtual_key import VirtualKeyState, digest, is_well_formed
from proxy.keyring.embedded import EmbeddedKeyringStore
from proxy.ledger.embedded import EmbeddedLedgerStore
from proxy.ledger.sink import LedgerSink
from proxy.ledger.sinks import connect_sink
from proxy.routing.embedded import EmbeddedSwitchStore
from proxy.settings.model import Settings, StateSettings
from proxy.settings.problem import SettingsError
from tests.admission_stores import adjusted
from tests.cli_result import begin_state
from tests.virtual_keys import by_digest


@dataclass
class Stores:
    virtual_keys: EmbeddedVirtualKeyStore
    tenants: EmbeddedTenantStore
    admission: EmbeddedAdmissionStore
    ledger: EmbeddedLedgerStore
    keyring: EmbeddedKeyringStore
    switches: EmbeddedSwitchStore
    cache_book: EmbeddedCacheBook
    cache: EmbeddedCacheStore
    sink: LedgerSink | None


class EmbeddedComposition:
    """The composition root's part, without a server."""

    def __init__(self):
        self.served = []

    def serve(self, settings, read_settings):
        self.served.append((settings, read_settings))
        return 7

    @asynccontextmanager
    async def open_stores(self, settings):
        settings.state.folder.mkdir(parents=True, exist_ok=True)
        kept = SqliteDoor(sqlite_path("sqlite:cache.db", settings.state.folder), CACHE_MIGRATIONS)
        async with SqliteDoor(sqlite_path(settings.state.url, settings.state.folder)) as door, kept:
            yield Stores(
                EmbeddedVirtualKeyStore(door),
                EmbeddedTenantStore(door),
                EmbeddedAdmissionStore(door, Clock(), adjusted),
                EmbeddedLedgerStore(door),
                EmbeddedKeyringStore(door),
                EmbeddedSwitchStore(door),
                EmbeddedCacheBook(door),
                EmbeddedCacheStore(kept, settings.cache.file_bytes_max, Clock()),
                connect_sink(settings.ledger.sink, settings.state.folder),
            )

    def command_keyring(self, settings, store, clock):
        return command_keyring(settings, store, clock)

    def peppers_of(self, settings):
        return (pepper_bytes(load_or_make_pepper(settings.state.folder)),)

    def price_warnings(self, settings, now_ms):
        return ()


class Broken(EmbeddedComposition):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def serve(self, settings, read_settings):
        raise self.error

    def open_stores(self, settings):
        raise self.error


@dataclass
class Result:
    code: int
    out: str
    err: str


class Bench:
    """One configuration in one folder, and commands run against it."""

    def __init__(self, folder):
        self.folder = folder
        self.path = folder / "t.toml"
        begin_state(folder / "state")
        self.composition = EmbeddedComposition()
        self.write("")

    def write(self, text):
        self.path.write_text(f'[state]\nfolder = "{self.folder / "state"}"\n' + text)

    def run(self, *words, environ=None):
        output, errors = io.StringIO(), io.StringIO()
        code = main(
            [*words, "--config", str(self.path)],
            environ=environ or {},
            output=output,
            errors=errors,
            composition=self.composition,
        )
        return Result(code, output.getvalue(), errors.getvalue())

    def listed(self, *words):
        return json.loads(self.run("keys", "list", "--json", *words).out)["virtual_keys"]

    async def found(self, token):
        """What a gateway beside the command would find for this token."""
        settings = Settings(state=StateSettings(folder=self.folder / "state"))
        (pepper,) = self.composition.peppers_of(settings)
        async with self.composition.open_stores(settings) as stores:
            return await by_digest(stores.virtual_keys, [digest(token, pepper)])


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


# ── keys ─────────────────────────────────────────────────────────────────────────────────


def test_an_issued_key_stands_alone_on_standard_output(bench):
    result = bench.run("keys", "issue", "--tenant", "acme")
    assert result.code == 0
    assert result.out.endswith("\n")
    token = result.out.removesuffix("\n")
    assert is_well_formed(token)
    assert token not in result.err
    assert "acme" in result.err


async def test_the_gateway_knows_what_was_issued(bench):
    issued = await asyncio.to_thread(
        bench.run,
        *("keys", "issue", "--tenant", "acme", "--user", "u", "--feature", "f"),
        *("--models", "b,a", "--expires", "30d", "--json"),
    )
    document = json.loads(issued.out)
    virtual_key = await bench.found(document["virtual_key"])
    assert virtual_key is not None
    assert (virtual_key.id, virtual_key.tenant_id) == (document["id"], "acme")
    assert (virtual_key.user, virtual_key.feature) == ("u", "f")
    assert virtual_key.allowed_models == frozenset({"a", "b"})
    assert virtual_key.expires_at_ms == virtual_key.created_at_ms + 30 * 86_400_000
    assert document["models"] == ["a", "b"]
    assert issued.err == ""


def test_two_keys_are_never_the_same(bench):
    first, second = (json.loads(bench.run("keys", "issue", "--tenant", "a", "--json").out) for _ in range(2))
    assert first["virtual_key"] != second["virtual_key"]
    assert first["id"] != second["id"]


def test_the_list_shows_what_was_issued_and_no_token(bench):
    tokens = [bench.run("keys", "issue", "--tenant", tenant).out.strip() for tenant in ("acme", "other")]
    assert [one["tenant"] for one in bench.listed()] == ["acme", "other"]
    assert [one["tenant"] for one in bench.listed("--tenant", "other")] == ["other"]
    table = bench.run("keys", "list").out
    heading, *rows = table.splitlines()
    assert heading.split()[:3] == ["ID", "TENANT", "STATE"]
    assert [row.split()[1:3] for row in rows] == [["acme", "active"], ["other", "active"]]
    column = heading.index("STATE")
    assert all(row[column:].startswith("active") for row in rows)
    assert not any(token in table for token in tokens)


def test_an_empty_list_says_what_to_do(bench):
    result = bench.run("keys", "list")
    assert (result.code, result.out) == (0, "")
    assert "tollway keys issue" in result.err
    assert bench.listed() == []


def test_a_revoked_key_is_revoked_for_ever(bench):
    issued = json.loads(bench.run("keys", "issue", "--tenant", "acme", "--json").out)
    revoked = bench.run("keys", "revoke", issued["id"])
    assert revoked.code == 0
    assert issued["id"] in revoked.out
    (listed,) = bench.listed()
    assert listed["state"] == VirtualKeyState.REVOKED
    again = json.loads(bench.run("keys", "revoke", issued["id"], "--json").out)
    assert again["revoked_at"] == listed["revoked_at"]


def test_revoking_what_does_not_exist_fails(bench):
    result = bench.run("keys", "revoke", "vk_nobody")
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("tollway: no virtual key has the id 'vk_nobody'")


def test_a_key_typed_in_the_place_of_its_id_is_not_shown_again(bench):
    issued = json.loads(bench.run("keys", "issue", "--tenant", "acme", "--json").out)
    token = issued["virtual_key"]
    for typed, ending in ((token, f"; of this one …{token[-4:]}"), (token[:-1], "")):
        for words in ((), ("--json",)):
            result = bench.run("keys", "revoke", typed, *words)
            assert (result.code, result.out) == (2, "")
            assert "that is the key itself, not its id. `tollway keys list` shows the ids, and what each" in result.err
            assert f"key ends in{ending}." in result.err
            assert token[4:20] not in result.err
    assert [one["state"] for one in bench.listed()] == [VirtualKeyState.ACTIVE]


def test_what_may_be_another_secret_is_not_shown_again(bench):
    result = bench.run("keys", "revoke", "sk-live-1234")
    assert (result.code, result.out) == (1, "")
    assert result.err == ("tollway: no virtual key has this id: they begin with vk_. `tollway keys list` shows them.\n")


@pytest.mark.parametrize("words", [("--user", ""), ("--feature", "x" * 129), ("--user", "a\nb")])
def test_a_name_that_no_request_could_have_is_usage(bench, words):
    result = bench.run("keys", "issue", "--tenant", "acme", *words)
    assert (result.code, result.out) == (2, "")
    assert result.err.count("\n") == 1
    assert bench.listed() == []


@pytest.mark.parametrize(
    ("text", "words", "said"),
    [
        (
            '[auth]\nmode = "passthrough"\ndefault_provider = "p"\n[providers.p]\ntransport = "simulated"\n',
            (),
            "does not ask",
        ),
        ("[auth]\nknown_tenants_only = true\n", (), "acme is not under [tenants]"),
        ("", ("--models", "gpt"), "no model is called 'gpt'"),
        (
            '[providers.p]\ntransport = "simulated"\n[models.m]\ntenants = ["other"]\n'
            'deployments = [{ provider = "p", model = "simulated" }]\n',
            ("--models", "m"),
            "the model 'm' is not for acme",
        ),
    ],
)
def test_a_key_that_will_not_do_what_was_hoped_for_comes_with_a_note(bench, text, words, said):
    bench.write(text)
    result = bench.run("keys", "issue", "--tenant", "acme", *words)
    assert result.code == 0
    assert "\nNote: " in result.err
    assert said in result.err
    assert is_well_formed(result.out.strip())


# ── check ────────────────────────────────────────────────────────────────────────────────


def test_check_sums_up_a_good_file_and_connects_to_nothing(bench):
    bench.write('[providers.p]\nbase_url = "https://unreachable.invalid"\nprovider_key = "env?:NONE"\n')
    bench.composition = Broken(AssertionError("nothing is opened"))
    result = bench.run("check")
    assert result.code == 0
    assert result.out.startswith(f"OK: {bench.path} (version ")
    assert "p (no key)" in result.out
    assert "Warning: providers.p.provider_key is absent" in result.out


def test_check_says_everything_that_is_wrong(bench):
    bench.write('[server]\nbnd = "x"\nworkers = 65\n')
    result = bench.run("check")
    assert (result.code, result.out) == (1, "")
    lines = result.err.splitlines()
    assert [line.split(": ")[1] for line in lines[:2]] == ["server.workers", "server.bnd"]
    assert 'Did you mean "bind"?' in lines[1]
    assert lines[2] == f"tollway: {bench.path}: 2 problems to put right"


def test_check_answers_programs(bench):
    good = json.loads(bench.run("check", "--json").out)
    assert (good["ok"], good["config"], good["reached"]) == (True, str(bench.path), [])
    bench.write("x = 1\n[server]\nworkers = 65\n")
    bad = bench.run("check", "--json")
    assert bad.code == 1
    document = json.loads(bad.out)
    assert not document["ok"]
    assert [problem["path"] for problem in document["problems"]] == ["server.workers", "state.x"]
    assert "2 problems" in json.loads(bad.err)["error"]


def test_check_shows_no_password(bench):
    bench.path.write_text('[state]\nurl = "redis://user:hunter2@redis:6379/1"\n')
    result = bench.run("check")
    assert "redis://redis:6379/1" in result.out
    assert "hunter2" not in result.out + result.err


def test_check_connect_tries_the_state_and_every_provider(bench):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        closed_port = closed.getsockname()[1]
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        bench.write(
            f'[providers.up]\nbase_url = "http://127.0.0.1:{port}"\n'
            f'[providers.down]\nbase_url = "http://127.0.0.1:{closed_port}"\n'
            '[providers.inside]\ntransport = "simulated"\n'
        )
        people = bench.run("check", "--connect")
        programs = bench.run("check", "--connect", "--json")
    assert people.code == programs.code == 1
    assert "  state: reached\n" in people.out
    assert "  cache: reached\n" in people.out
    assert f"  up at 127.0.0.1:{port}: reached\n" in people.out
    assert f"  down at 127.0.0.1:{closed_port}: FAILED: " in people.out
    reached = {one["target"]: one["failure"] for one in json.loads(programs.out)["reached"]}
    assert reached["state"] is reached["cache"] is reached["ledger"] is None
    assert reached[f"up at 127.0.0.1:{port}"] is None
    assert reached[f"down at 127.0.0.1:{closed_port}"]
    assert len(reached) == 5


def test_check_connect_says_that_the_state_is_away(bench):
    bench.composition = Broken(StateUnavailable("The state store did not answer."))
    result = bench.run("check", "--connect")
    assert result.code == 1
    assert "  state: FAILED: The state store did not answer.\n" in result.out


def test_the_cause_of_an_outage_stands_where_an_operator_looks(bench):
    bench.composition = Broken(StateUnavailable("It did not answer. Try again shortly.", cause="the disk is full"))
    assert "  state: FAILED: the disk is full\n" in bench.run("check", "--connect").out
    assert bench.run("keys", "list").err == "tollway: sqlite:tollway.db: the disk is full\n"
    assert bench.run("serve").err == "tollway: sqlite:tollway.db: the disk is full\n"


class Forgetful(EmbeddedComposition):
    """A store that may throw away what it holds."""

    @asynccontextmanager
    async def open_stores(self, settings):
        async def check():
            raise StateIncompatible("Set maxmemory-policy noeviction.")

        async with super().open_stores(settings) as stores:
            yield replace(stores, admission=SimpleNamespace(check=check))


def test_check_connect_refuses_a_store_that_the_gateway_would_refuse(bench):
    bench.composition = Forgetful()
    result = bench.run("check", "--connect")
    assert result.code == 1
    assert "  state: FAILED: Set maxmemory-policy noeviction.\n" in result.out


class CacheAway(EmbeddedComposition):
    """A state store that answers, and a store of kept answers that does not."""

    def __init__(self, cause=None):
        super().__init__()
        self.cause = cause

    @asynccontextmanager
    async def open_stores(self, settings):
        async def ping():
            raise StateUnavailable("The gateway's state store did not answer in time.", cause=self.cause)

        async with super().open_stores(settings) as stores:
            yield replace(stores, cache=SimpleNamespace(ping=ping))


def test_check_connect_says_why_the_store_of_kept_answers_is_away(bench):
    bench.composition = CacheAway("the disk is full")
    assert "  cache: FAILED: sqlite:cache.db: the disk is full\n" in bench.run("check", "--connect").out


def test_check_connect_says_that_the_store_of_kept_answers_is_away(bench):
    bench.path.write_text(
        f'[state]\nfolder = "{bench.folder / "state"}"\ncache_url = "redis://user:hunter2@cache:6379"\n'
    )
    bench.composition = CacheAway()
    result = bench.run("check", "--connect")
    assert result.code == 1
    assert "  state: reached\n" in result.out
    assert "  cache: FAILED: redis://cache:6379: the store of kept answers did not answer in time." in result.out


def test_check_connect_asks_no_store_of_kept_answers_where_there_is_none(bench):
    bench.path.write_text(f'[state]\nfolder = "{bench.folder / "state"}"\ncache_url = "none"\n')
    bench.composition = CacheAway()
    reached = json.loads(bench.run("check", "--connect", "--json").out)["reached"]
    assert [one["target"] for one in reached] == ["state", "ledger"]


def test_check_connect_asks_the_ledgers_sink_and_leaves_nothing_in_it(bench):
    assert "  ledger: reached\n" in bench.run("check", "--connect").out
    assert not (bench.folder / "state" / "ledger").exists()
    (bench.folder / "state" / "ledger").write_text("in the way")
    result = bench.run("check", "--connect")
    assert result.code == 1
    said = f"  ledger: FAILED: folder:ledger/: [Errno 20] Not a directory: '{bench.folder}/state/ledger'\n"
    assert said in result.out
    bench.write('[ledger]\nsink = "none"\n')
    assert "  ledger: " not in bench.run("check", "--connect").out


@pytest.mark.parametrize(
    ("text", "is_said"),
    [
        ("", True),
        ('[providers.p]\ntransport = "simulated"\n', True),
        ('[auth]\ndefault_provider = "p"\n[providers.p]\ntransport = "simulated"\n', False),
        (
            '[providers.p]\ntransport = "simulated"\n[models.m]\ndeployments = [{ provider = "p", model = "m" }]\n',
            False,
        ),
        ('[auth]\nmode = "passthrough"\n', False),  # which says so in its own words
    ],
)
def test_check_says_that_nothing_is_served(bench, text, is_said):
    bench.write(text)
    said = "nothing is served: there is no model under [models], and auth.default_provider is not set. Write either."
    result = bench.run("check")
    assert result.code == 0
    assert (f"\nWarning: {said}\n" in result.out) is is_said
    assert (said in json.loads(bench.run("check", "--json").out)["warnings"]) is is_said


S3_SINK = '[ledger]\nsink = "s3://bucket/prefix"\n'
KMS_KEK = '[keyring]\nkek = "aws-kms:arn:aws:kms:eu-west-1:111122223333:key/1234"\n'


def test_what_needs_a_package_that_is_not_there_is_said_before_anything_is_tried(bench, monkeypatch):
    bench.write(S3_SINK + KMS_KEK)
    assert "boto3" not in bench.run("check").out
    monkeypatch.setitem(sys.modules, "boto3", None)
    s3 = (
        "ledger.sink is in S3, which needs boto3: pip install 'tollway[s3]', or -e '.[s3]' in a checkout. "
        "Without it no row is exported."
    )
    kms = (
        "keyring.kek is in AWS KMS, which needs boto3: pip install 'tollway[kms]', or -e '.[kms]' in a checkout. "
        "Without it no provider key opens."
    )
    assert [line for line in bench.run("check").out.splitlines() if "boto3" in line] == [
        f"Warning: {s3}",
        f"Warning: {kms}",
    ]
    assert f"Warning: {s3}\nWarning: {kms}\n" in bench.run("serve").err
    assert json.loads(bench.run("check", "--json").out)["warnings"][:2] == [s3, kms]
    result = bench.run("check", "--connect")
    assert (
        "  ledger: FAILED: s3://bucket/prefix: S3 needs boto3: pip install 'tollway[s3]', or -e '.[s3]' in a checkout\n"
        in result.out
    )
    bench.write("")
    assert "boto3" not in bench.run("check").out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "sqlite:cache.db and each process's memory; the file turns it on in 0 places"),
        (
            '[tenants.acme]\ncache = { mode = "all" }\n[tenants.zoo]\ncache = { mode = "off" }\n',
            "sqlite:cache.db and each process's memory; the file turns it on in 1 place",
        ),
        ("[cache]\nmemory_bytes_max = 0\n", "sqlite:cache.db; the file turns it on in 0 places"),
        ('cache_url = "none"\n', "each process's memory; the file turns it on in 0 places"),
        ('cache_url = "none"\n[cache]\nmemory_bytes_max = 0\n', "nowhere; the file turns it on in 0 places"),
        ('cache_url = "redis://u:hunter2@cache"\n', "redis://cache and each process's memory; the file turns"),
        ('[auth]\nmode = "passthrough"\n', 'none: in mode "passthrough" no answer is kept'),
    ],
)
def test_check_says_where_answers_are_kept(bench, text, said):
    bench.write(text)
    assert f"\n  cache      {said}" in bench.run("check").out


def test_a_store_that_is_away_is_named_without_its_password(bench):
    bench.path.write_text('[state]\nurl = "redis://user:hunter2@redis:6379/1"\n')
    bench.composition = Broken(StateUnavailable("It did not answer."))
    result = bench.run("keys", "list")
    assert (result.code, result.err) == (1, "tollway: redis://redis:6379/1: It did not answer.\n")


# ── serve, and what every command does ───────────────────────────────────────────────────


def test_serve_hands_over_and_gives_back_the_exit_code(bench):
    bench.write('[server]\nbind = "127.0.0.1:0"\n[auth]\nallow_keyless = true\n')
    result = bench.run("serve")
    assert result.code == 7
    ((settings, _),) = bench.composition.served
    assert settings.server.bind.port == 0
    assert result.err.startswith("Warning: auth.allow_keyless does nothing")


def test_a_reload_reads_the_same_file_anew_and_raises_what_the_gateway_expects(bench):
    bench.run("serve")
    ((before, read_settings),) = bench.composition.served
    bench.write("[tenants.acme]\n")
    assert set(read_settings().tenants) == {"acme"}
    assert read_settings().version != before.version
    bench.write("[tenants.acme]\nplan = 1\n")
    with pytest.raises(SettingsError):
        read_settings()
    bench.path.unlink()
    with pytest.raises(OSError, match="cannot read"):
        read_settings()


def test_nothing_is_served_from_a_bad_file(bench):
    bench.write("[server]\nworkers = 0\n")
    assert bench.run("serve").code == 1
    assert bench.composition.served == []


@pytest.mark.parametrize("words", [("serve",), ("check",), ("keys", "list"), ("keys", "issue", "--tenant", "a")])
def test_a_missing_file_is_one_line(bench, words):
    bench.path.unlink()
    result = bench.run(*words)
    assert (result.code, result.out) == (1, "")
    assert result.err == f"tollway: cannot read {bench.path}: No such file or directory\n"


@pytest.mark.parametrize(
    "error",
    [StateUnavailable("away"), PermissionError(13, "Permission denied", "state"), ValueError("state/pepper: spoilt")],
)
@pytest.mark.parametrize("words", [("serve",), ("keys", "list"), ("keys", "revoke", "x")])
def test_a_failure_is_one_line_and_no_traceback(bench, error, words):
    bench.composition = Broken(error)
    people, programs = bench.run(*words), bench.run(*words, "--json")
    assert people.code == programs.code == 1
    said = f"sqlite:tollway.db: {error}" if isinstance(error, StateUnavailable) else str(error)
    assert people.err == f"tollway: {said}\n"
    assert json.loads(programs.err) == {"error": said}


@pytest.mark.parametrize("words", [("prices", "show"), ("prices", "show", "--json")])
def test_whoever_has_read_enough_hears_no_complaint(words):
    """What `| head -1` does, by hand: a line is read, and the pipe is closed."""
    command = [sys.executable, "-m", "proxy", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141  # as a shell counts SIGPIPE


def test_an_interruption_is_no_failure_of_ours(bench):
    bench.composition = Broken(KeyboardInterrupt())
    result = bench.run("serve")
    assert (result.code, result.err) == (130, "")


@pytest.mark.parametrize(("typed", "niceness"), [(["usage"], 10), (["ledger", "verify"], 10), (["keys", "list"], 0)])
def test_a_command_that_reads_for_long_lets_a_gateways_calls_go_first(tmp_path, typed, niceness):
    config = tmp_path / "tollway.toml"
    config.write_text(f'[state]\nfolder = "{tmp_path}"\n[auth]\nmode = "virtual-keys"\n')
    program = "import os, sys; from proxy.__main__ import main; main(); print(os.getpriority(os.PRIO_PROCESS, 0))"
    command = [sys.executable, "-c", program, *typed, "--config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert int(done.stdout.split()[-1]) == max(niceness, os.getpriority(os.PRIO_PROCESS, 0))
