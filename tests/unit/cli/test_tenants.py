"""`tollway tenants` as it is typed, beside a real SQLite store."""

import io
import json
import os
import pwd
import sqlite3
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass

import pytest

from proxy.__main__ import main
from proxy.adapters.sqlite import SqliteDoor, sqlite_path
from proxy.admission.embedded import EmbeddedAdmissionStore
from proxy.app.keyring import command_keyring
from proxy.cache.embedded import EmbeddedCacheBook
from proxy.core.clock import Clock
from proxy.identity.embedded import EmbeddedTenantStore, EmbeddedVirtualKeyStore
from proxy.identity.pepper import load_or_make_pepper, pepper_bytes
from proxy.keyring.embedded import EmbeddedKeyringStore
from proxy.ledger.embedded import EmbeddedLedgerStore
from proxy.routing.embedded import EmbeddedSwitchStore
from tests.admission_stores import adjusted
from tests.cli_result import begin_state

PLANS = "[plans.pro]\n[plans.free]\n"
DEFAULTS = {
    "plan": "default",
    "timezone": "UTC",
    "no_ceiling": "auto",
    "stream_usage": "auto",
    "fallback": "none",
    "residency": None,
    "zero_retention": False,
    "allow_unmetered": False,
    "count_own_key": False,
    "cache": None,
}


@dataclass
class Stores:
    virtual_keys: EmbeddedVirtualKeyStore
    tenants: EmbeddedTenantStore
    admission: EmbeddedAdmissionStore
    ledger: EmbeddedLedgerStore
    keyring: EmbeddedKeyringStore
    switches: EmbeddedSwitchStore
    cache_book: EmbeddedCacheBook


class EmbeddedComposition:
    """The composition root's part, without a server."""

    def serve(self, settings, read_settings):
        raise AssertionError("nothing is served here")

    @asynccontextmanager
    async def open_stores(self, settings):
        async with SqliteDoor(sqlite_path(settings.state.url, settings.state.folder)) as door:
            yield Stores(
                EmbeddedVirtualKeyStore(door),
                EmbeddedTenantStore(door),
                EmbeddedAdmissionStore(door, Clock(), adjusted),
                EmbeddedLedgerStore(door),
                EmbeddedKeyringStore(door),
                EmbeddedSwitchStore(door),
                EmbeddedCacheBook(door),
            )

    def command_keyring(self, settings, store, clock):
        return command_keyring(settings, store, clock)

    def peppers_of(self, settings):
        return (pepper_bytes(load_or_make_pepper(settings.state.folder)),)

    def price_warnings(self, settings, now_ms):
        return ()


class Bench:
    """One configuration in one folder, and commands run against it."""

    def __init__(self, folder):
        self.folder = folder
        self.path = folder / "t.toml"
        begin_state(folder / "state")
        self.write(PLANS)

    def write(self, text):
        self.path.write_text(f'[state]\nfolder = "{self.folder / "state"}"\n' + text)

    def run(self, *words, code=0):
        output, errors = io.StringIO(), io.StringIO()
        typed = [*words, "--config", str(self.path)]
        found = main(typed, environ={}, output=output, errors=errors, composition=EmbeddedComposition())
        assert found == code, errors.getvalue()
        return output.getvalue(), errors.getvalue()

    def answer(self, *words):
        return json.loads(self.run(*words, "--json")[0])

    def tenants(self):
        return self.answer("tenants", "list")["tenants"]


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def part(document):
    return {name: document[name] for name in DEFAULTS}


def test_a_new_tenant_has_the_defaults(bench):
    output, errors = bench.run("tenants", "put", "acme")
    assert output == "Added acme: plan default, UTC.\n"
    assert errors == ""
    (listed,) = bench.tenants()
    assert part(listed) == DEFAULTS
    assert (listed["id"], listed["from"], listed["in_force"]) == ("acme", "store", True)


def test_everything_that_is_typed_arrives(bench):
    answer = bench.answer(
        *("tenants", "put", "acme", "--plan", "pro", "--timezone", "Europe/Berlin", "--no-ceiling", "insert"),
        *("--stream-usage", "restore", "--allow-unmetered", "--count-own-key"),
        *("--fallback", "lower", "--residency", "us,eu", "--zero-retention"),
        *("--cache-mode", "deterministic", "--cache-ttl-s", "600", "--cache-share", "user"),
        *("--cache-events-per-s", "50"),
    )
    expected = {
        "plan": "pro",
        "timezone": "Europe/Berlin",
        "no_ceiling": "insert",
        "stream_usage": "restore",
        "fallback": "lower",
        "residency": ["eu", "us"],
        "zero_retention": True,
        "allow_unmetered": True,
        "count_own_key": True,
        "cache": {"mode": "deterministic", "ttl_s": 600, "share": "user", "events_per_s": 50},
    }
    assert answer["is_new"]
    assert part(answer) == expected
    assert part(bench.tenants()[0]) == expected


def test_what_is_not_typed_stays_as_it_was(bench):
    bench.run("tenants", "put", "acme", "--timezone", "Asia/Tokyo", "--allow-unmetered")
    created_at = bench.tenants()[0]["created_at"]
    output, _ = bench.run("tenants", "put", "acme", "--plan", "free")
    assert output == "Changed acme: plan free, Asia/Tokyo.\n"
    (listed,) = bench.tenants()
    assert part(listed) == DEFAULTS | {"plan": "free", "timezone": "Asia/Tokyo", "allow_unmetered": True}
    assert listed["created_at"] == created_at
    bench.run("tenants", "put", "acme", "--no-allow-unmetered")
    assert bench.tenants()[0]["allow_unmetered"] is False


def test_a_residency_where_no_provider_is_comes_with_the_files_own_words(bench):
    def notes(*words):
        return bench.run("tenants", "put", "acme", *words)[1]

    said = (
        "residency names no region of any provider: every call of this tenant is refused. Write `region` beside the "
        "providers that may serve it."
    )
    assert notes("--residency", "eu,us") == f"Note: its {said}\n"
    bench.write('[providers.p]\ntransport = "simulated"\nregion = "us"\n')
    assert notes("--residency", "eu") == f"Note: its {said}\n"
    assert notes("--residency", "eu,us") == notes("--residency", "any") == ""
    bench.write('[providers.p]\ntransport = "simulated"\n[tenants.in-file]\nresidency = ["eu"]\n')
    assert f"Warning: tenants.in-file.{said}\n".replace("in-file", '"in-file"') in bench.run("check")[0]


def test_a_residency_is_taken_away_again(bench):
    bench.run("tenants", "put", "acme", "--residency", "eu")
    assert "eu" in bench.run("tenants", "list")[0]
    assert bench.answer("tenants", "put", "acme", "--residency", "any")["residency"] is None


CACHE: dict[str, object] = {"mode": "all", "ttl_s": 600, "share": "user", "events_per_s": 50}
TYPED = ("--cache-mode", "all", "--cache-ttl-s", "600", "--cache-share", "user", "--cache-events-per-s", "50")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), CACHE),
        (("--plan", "pro"), CACHE),
        (("--cache-mode", "off"), CACHE | {"mode": "off"}),
        (("--cache-ttl-s", "2592000"), CACHE | {"ttl_s": 2_592_000}),
        (("--cache-share", "virtual_key"), CACHE | {"share": "virtual_key"}),
        (("--cache-events-per-s", "10000"), CACHE | {"events_per_s": 10_000}),
        (("--cache-events-per-s", "none"), CACHE | {"events_per_s": None}),
        (("--cache-mode", "unset"), None),
    ],
)
def test_what_is_not_typed_of_its_cache_stays_as_it_was(bench, words, expected):
    bench.run("tenants", "put", "acme", *TYPED)
    assert bench.answer("tenants", "put", "acme", *words)["cache"] == expected
    assert bench.tenants()[0]["cache"] == expected


def test_what_is_not_typed_of_a_new_cache_is_the_default(bench):
    answer = bench.answer("tenants", "put", "acme", "--cache-mode", "deterministic")
    assert answer["cache"] == {"mode": "deterministic", "ttl_s": 3_600, "share": "tenant", "events_per_s": None}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--cache-ttl-s", "60"), "add --cache-mode (off, deterministic, all)"),
        (("--cache-events-per-s", "none"), "add --cache-mode"),
        (("--cache-mode", "unset", "--cache-share", "user"), "leave the others out"),
    ],
)
def test_a_cache_of_which_nobody_says_what_it_keeps_is_usage(bench, words, said):
    output, errors = bench.run("tenants", "put", "acme", *words, code=2)
    assert output == ""
    assert said in errors
    assert bench.tenants() == []


def test_the_list_shows_which_answers_are_kept(bench):
    bench.run("tenants", "put", "acme", *TYPED)
    bench.write(PLANS + "[tenants.mid]\n[tenants.zoo]\ncache = { mode = 'off' }\n")
    heading, *rows = bench.run("tenants", "list")[0].splitlines()
    at = heading.index("CACHE")
    assert [row[at:].split()[0] for row in rows] == ["all", "unset", "off"]


def test_a_tenant_of_the_file_is_changed_there(bench):
    bench.write(PLANS + "[tenants.acme]\nplan = 'pro'\n")
    output, errors = bench.run("tenants", "put", "acme", code=1)
    assert output == ""
    assert "acme stands in the file" in errors
    (listed,) = bench.tenants()
    assert (listed["from"], listed["plan"], listed["created_at"]) == ("file", "pro", None)


def test_a_plan_that_is_not_there_is_usage(bench):
    output, errors = bench.run("tenants", "put", "acme", "--plan", "pri", code=2)
    assert output == ""
    assert "there is no plan 'pri'. Did you mean \"pro\"?" in errors
    assert bench.tenants() == []


@pytest.mark.parametrize(
    "words",
    [
        *(("acme", "--timezone", zone) for zone in ("Mars/Base", "", "CEST+1", "../x")),
        *(("acme", flag, "sometimes") for flag in ("--no-ceiling", "--stream-usage", "--fallback")),
        *(("acme", flag, "sometimes") for flag in ("--cache-mode", "--cache-share")),
        *(("acme", "--cache-mode", "all", "--cache-ttl-s", ttl_s) for ttl_s in ("0", "2592001", "-1", "1h", "")),
        *(("acme", "--cache-mode", "all", "--cache-events-per-s", pace) for pace in ("0", "10001", "0.5", "never")),
        *(("acme", "--residency", regions) for regions in ("", "EU", "eu,,us")),
        *((tenant_id,) for tenant_id in ("", "a b", "{a}")),
        (),
    ],
)
def test_what_cannot_be_is_usage(bench, words, capsys):
    with pytest.raises(SystemExit) as caught:
        bench.run("tenants", "put", *words)
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("usage: tollway tenants put")


def test_the_list_shows_the_files_and_the_stores_by_id(bench):
    bench.run("tenants", "put", "mid")
    bench.run("tenants", "put", "acme", "--plan", "pro")
    bench.write(PLANS + "[tenants.acme]\nplan = 'free'\n[tenants.zoo]\n")
    listed = [(one["id"], one["plan"], one["from"], one["in_force"]) for one in bench.tenants()]
    assert listed == [
        ("acme", "free", "file", True),
        ("acme", "pro", "store", False),
        ("mid", "default", "store", True),
        ("zoo", "default", "file", True),
    ]
    heading, *rows = bench.run("tenants", "list")[0].splitlines()
    assert heading.split()[:2] == ["ID", "PLAN"]
    assert [row.split()[0] for row in rows] == ["acme", "acme", "mid", "zoo"]
    assert "store (not in force)" in rows[1]


def test_an_empty_list_says_what_to_do(bench):
    output, errors = bench.run("tenants", "list")
    assert output == ""
    assert "tollway tenants put" in errors


# ── delete ───────────────────────────────────────────────────────────────────────────────


def test_a_deleted_tenant_is_gone(bench):
    bench.run("tenants", "put", "acme")
    bench.run("tenants", "put", "other")
    assert bench.run("tenants", "delete", "acme")[0] == "Deleted acme.\n"
    assert [one["id"] for one in bench.tenants()] == ["other"]
    _, errors = bench.run("tenants", "delete", "acme", code=1)
    assert errors.startswith("tollway: no tenant acme was put. `tollway tenants list`")


def test_a_tenant_whose_keys_still_work_stays_unless_it_is_forced(bench):
    bench.run("tenants", "put", "acme")
    ids = [bench.answer("keys", "issue", "--tenant", "acme")["id"] for _ in range(3)]
    others = bench.answer("keys", "issue", "--tenant", "other")["id"]
    bench.run("keys", "revoke", ids[0])
    _, errors = bench.run("tenants", "delete", "acme", code=1)
    assert "virtual keys that still work: 2." in errors
    assert "`tollway keys list --tenant acme`" in errors
    assert [one["id"] for one in bench.tenants()] == ["acme"]
    answer = bench.answer("tenants", "delete", "acme", "--force")
    assert set(answer["revoked"]) == set(ids[1:])
    assert bench.tenants() == []
    states = {one["id"]: one["state"] for one in bench.answer("keys", "list")["virtual_keys"]}
    assert states == {**dict.fromkeys(ids, "revoked"), others: "active"}


def test_once_its_keys_are_revoked_no_force_is_needed(bench):
    bench.run("tenants", "put", "acme")
    bench.run("keys", "revoke", bench.answer("keys", "issue", "--tenant", "acme")["id"])
    assert bench.answer("tenants", "delete", "acme") == {"id": "acme", "revoked": [], "wiped": []}


def test_a_record_that_the_file_overrules_can_be_deleted_and_the_keys_go_on(bench):
    bench.run("tenants", "put", "acme")
    bench.answer("keys", "issue", "--tenant", "acme")
    bench.write(PLANS + "[tenants.acme]\n")
    _, errors = bench.run("tenants", "delete", "acme", "--force")
    assert "the file still names acme" in errors
    assert [one["state"] for one in bench.answer("keys", "list")["virtual_keys"]] == ["active"]
    _, errors = bench.run("tenants", "delete", "acme", code=1)
    assert "It stands in the file" in errors


# ── notes ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            '[auth]\nmode = "passthrough"\ndefault_provider = "p"\n[providers.p]\ntransport = "simulated"\n',
            "file alone",
        ),
        ('[providers.p]\ntransport = "simulated"\nallow_shared_state = true\n', "providers.p.allow_shared_state"),
    ],
)
def test_a_tenant_that_will_not_be_served_as_hoped_comes_with_a_note(bench, text, said):
    bench.write(text)
    _, errors = bench.run("tenants", "put", "acme")
    assert errors.startswith("Note: ")
    assert said in errors


def test_a_tenant_whose_plan_was_taken_out_of_the_file_comes_with_a_note(bench):
    bench.run("tenants", "put", "acme", "--plan", "pro")
    bench.write("")
    _, errors = bench.run("tenants", "put", "acme", "--timezone", "UTC")
    assert "the configuration has no plan 'pro'" in errors


def test_a_key_of_a_tenant_that_was_put_comes_without_a_note(bench):
    bench.write("[auth]\nknown_tenants_only = true\n")
    _, errors = bench.run("keys", "issue", "--tenant", "acme")
    assert "acme is not under [tenants], nor was it put" in errors
    bench.run("tenants", "put", "acme")
    _, errors = bench.run("keys", "issue", "--tenant", "acme")
    assert "Note" not in errors


def test_a_keys_limits_are_listed_as_they_were_typed(bench):
    bench.run("keys", "issue", "--tenant", "acme", "--usd-per-day", "1.50", "--requests-per-minute", "60")
    bench.run("keys", "issue", "--tenant", "acme")
    limits = [one["limits"] for one in bench.answer("keys", "list")["virtual_keys"]]
    assert sorted(limits, key=str) == [None, {"requests_per_minute": 60, "burst": 60, "usd_per_day": "1.50"}]


# ── rows ─────────────────────────────────────────────────────────────────────────────────


def test_each_change_has_a_row_that_says_who_typed_it(bench, monkeypatch):
    for variable in ("USER", "LOGNAME", "USERNAME"):
        monkeypatch.setenv(variable, "somebody-else")
    bench.run("tenants", "put", "acme", "--plan", "pro")
    issued = bench.answer("keys", "issue", "--tenant", "acme", "--user", "ada")
    bench.run("keys", "revoke", issued["id"])
    bench.run("tenants", "delete", "acme")
    bench.run("tenants", "delete", "acme", code=1)
    with closing(sqlite3.connect(bench.folder / "state" / "tollway.db")) as connection:
        rows = [
            json.loads(data) for (data,) in connection.execute("SELECT data FROM ledger ORDER BY tenant_id, position")
        ]
    assert [(row["action"], row["virtual_key_id"]) for row in rows] == [
        ("tenant.put", None),
        ("virtual_key.issue", issued["id"]),
        ("virtual_key.revoke", issued["id"]),
        ("tenant.delete", None),
    ]
    assert {row["actor"] for row in rows} == {f"cli:{pwd.getpwuid(os.getuid()).pw_name}"}
    assert issued["virtual_key"][4:] not in json.dumps(rows)
