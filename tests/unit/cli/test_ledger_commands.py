"""`tollway ledger export`, `ledger verify` and `usage`, with the real composition beside a SQLite store."""

import asyncio
import csv
import io
import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from proxy import app
from proxy.__main__ import main
from proxy.core import jsonio
from proxy.ledger.entry import SealedRow
from proxy.settings.model import Settings, StateSettings
from tests.cli_result import Result, Screen, begin_state


class Bench:
    """One state folder, and commands run against it."""

    def __init__(self, folder):
        self.folder = folder / "state"
        begin_state(self.folder)
        self.path = folder / "t.toml"
        self.path.write_text(f'[state]\nfolder = "{self.folder}"\n')
        self.settings = Settings(state=StateSettings(folder=self.folder))
        self.spent_nusd: dict[str, int] | None = None

    def run(self, *words, screen=None):
        output, errors = io.StringIO(), screen or io.StringIO()
        typed = [*words, "--config", str(self.path)]
        code = main(typed, environ={}, output=output, errors=errors, composition=self._composition())
        return Result(code, output.getvalue(), errors.getvalue())

    def append(self, *rows):
        async def step():
            async with app.open_stores(self.settings) as stores:
                await stores.ledger.append(rows)

        asyncio.run(step())

    def page(self, number, tenant_id="acme"):
        return self.folder / "ledger" / tenant_id / f"{number:08d}.jsonl"

    def _composition(self):
        """The real one, and counters if a test has some."""
        if self.spent_nusd is None:
            return app

        counted = self.spent_nusd

        async def spent_total_nusd(tenant_id):
            return counted.get(tenant_id)

        class Opened:
            def __init__(self, settings):
                self._real = app.open_stores(settings)

            async def __aenter__(self):
                return replace(await self._real.__aenter__(), spent_total_nusd=spent_total_nusd)

            async def __aexit__(self, *error):
                return await self._real.__aexit__(*error)

        return SimpleNamespace(open_stores=Opened)


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def row(number, tenant="acme", **fields):
    run_id = f"r{number}"
    entry = {
        "run_id": run_id,
        "started_at": "2026-11-20T12:00:00.000Z",
        "kind": "run",
        "tenant": tenant,
        "held_nusd": 0,
    }
    entry.update(fields)
    return SealedRow(tenant, run_id, jsonio.encode(entry))


# Three runs of acme and one of other. By hand: acme is charged 1,250 + 2,000,000,000 + 0 nano-dollars.
ROWS = (
    row(
        1,
        user="ann",
        feature="chat",
        requested_model="gpt-5",
        virtual_key_id="vk_1",
        input_tokens=100,
        cached_input_tokens=40,
        cache_write_tokens=3,
        output_tokens=10,
        reasoning_tokens=4,
        cost_nusd=1_250,
        charged_nusd=1_250,
        absorbed_nusd=0,
    ),
    row(
        2,
        user="bob",
        requested_model="gpt-5",
        started_at="2026-11-21T00:00:00.000Z",
        input_tokens=900,
        output_tokens=20,
        cost_nusd=2_500_000_000,
        charged_nusd=2_000_000_000,
        absorbed_nusd=500_000_000,
        saved_nusd=9,
        cache="hit",
    ),
    row(3, user="ann", requested_model=None, started_at="2026-11-21T23:59:59.999Z"),  # an older row: no cost fields
    row(1, "other", requested_model="gpt-5", input_tokens=1, output_tokens=None, charged_nusd=7, cost_nusd=7),
)


# ── export ───────────────────────────────────────────────────────────────────────────────


def test_export_drains_the_store_and_can_be_repeated(bench):
    bench.append(*ROWS)
    result = bench.run("ledger", "export")
    assert (result.code, result.out, result.err) == (0, "Exported 4 rows in 2 pages.\n", "")
    assert bench.page(1).read_bytes().count(b"\n") == 4  # a header and three rows
    assert bench.run("ledger", "export").out == "Exported 0 rows in 0 pages.\n"
    bench.append(row(4))
    assert bench.run("ledger", "export", "--json").document == {"rows": 1, "pages": 1, "failures": []}
    assert bench.page(2).exists()


def test_export_says_what_is_in_its_way(bench):
    bench.append(*ROWS)
    bench.folder.joinpath("ledger").write_text("a file in the way")
    result = bench.run("ledger", "export")
    assert result.code == 1
    assert result.err.startswith("tollway: The ledger's sink cannot be used: ")
    assert result.out == ""


def test_export_goes_on_without_lost_pages_only_when_told(bench):
    bench.append(*ROWS)
    bench.run("ledger", "export")
    bench.page(1).unlink()
    bench.append(row(4))
    refused = bench.run("ledger", "export")
    assert refused.code == 1
    assert "--accept-missing" in refused.err
    assert bench.run("ledger", "export", "--accept-missing").code == 0
    assert bench.run("ledger", "verify", "--tenant", "acme").code == 1
    assert bench.run("ledger", "verify", "--tenant", "acme", "--from-page", "2").code == 0


# ── verify ───────────────────────────────────────────────────────────────────────────────


def test_verify_follows_the_chains_and_adds_up_exported_and_waiting_rows(bench):
    bench.append(*ROWS)
    bench.run("ledger", "export")
    bench.append(row(4, charged_nusd=1))
    result = bench.run("ledger", "verify")
    assert result.code == 0
    assert [line.split() for line in result.out.splitlines()] == [
        "TENANT PAGES ROWS CHARGED USD COUNTED USD STATE".split(),
        "acme 1 4 2.000001251 - whole".split(),
        "other 1 1 0.000000007 - whole".split(),
    ]
    document = bench.run("ledger", "verify", "--json", "--tenant", "other").document
    assert document == {
        "ok": True,
        "tenants": [
            {
                "tenant": "other",
                "ok": True,
                "pages": 1,
                "rows": 1,
                "charged_nusd": 7,
                "spent_nusd": None,
                "positions_begun_anew_at_pages": [],
                "breach": None,
                "fault": None,
            }
        ],
    }


def test_verify_does_not_call_pages_whole_that_are_not_there(bench):
    bench.append(*ROWS)
    bench.run("ledger", "export")
    result = bench.run("ledger", "verify", "--from-page", "9")
    assert result.code == 0
    assert "not checked: it has no page 9" in result.out
    assert "whole" not in result.out
    document = bench.run("ledger", "verify", "--from-page", "9", "--json").document
    assert [finding["pages"] for finding in document["tenants"]] == [0, 0]


def test_verify_does_not_call_somebody_whole_whom_nobody_knows(bench):
    people = bench.run("ledger", "verify", "--tenant", "nobody")
    said = "nobody has heard of a tenant nobody. `tollway tenants list` shows them."
    assert people == Result(1, "", f"tollway: {said}\n")
    assert json.loads(bench.run("ledger", "verify", "--tenant", "nobody", "--json").err) == {"error": said}
    bench.path.write_text(bench.path.read_text() + "[tenants.nobody]\n")
    assert bench.run("ledger", "verify", "--tenant", "nobody").code == 0


def test_verify_knows_whoever_was_charged_though_all_rows_be_gone(bench):
    bench.spent_nusd = {"acme": 5}
    result = bench.run("ledger", "verify", "--tenant", "acme")
    assert result.code == 1
    assert "WRONG: its rows come to 0 nano-dollars, its counters to 5." in result.out


def test_verify_names_the_first_break(bench):
    for number in range(1, 4):
        bench.append(row(number))
        bench.run("ledger", "export")
    page = bench.page(2)
    page.write_bytes(page.read_bytes().replace(b"2026-11-20", b"2026-11-19"))
    result = bench.run("ledger", "verify")
    assert result.code == 1
    assert "WRONG: page 2: a row was changed after it was sealed." in result.out
    (finding,) = bench.run("ledger", "verify", "--json").document["tenants"]
    assert (finding["breach"], finding["pages"]) == ("row_changed", 1)


def test_verify_notices_that_the_last_page_is_gone(bench):
    for number in range(1, 4):
        bench.append(row(number))
        bench.run("ledger", "export")
    bench.page(3).unlink()
    (finding,) = bench.run("ledger", "verify", "--json").document["tenants"]
    assert (finding["ok"], finding["breach"]) == (False, "page_missing")


def test_verify_compares_with_the_counters(bench):
    bench.append(*ROWS)
    bench.run("ledger", "export")
    bench.spent_nusd = {"acme": 2_000_001_250, "other": 8}
    result = bench.run("ledger", "verify")
    assert result.code == 1
    assert [line.split(maxsplit=5) for line in result.out.splitlines()[1:]] == [
        ["acme", "1", "3", "2.000001250", "2.000001250", "whole"],
        [
            *("other", "1", "1", "0.000000007", "0.000000008"),
            "WRONG: its rows come to 7 nano-dollars, its counters to 8.",
        ],
    ]
    bench.spent_nusd = {"acme": 2_000_001_250}  # of other nothing is counted
    assert bench.run("ledger", "verify").code == 0


def test_an_empty_ledger_is_whole(bench):
    result = bench.run("ledger", "verify")
    assert (result.code, result.out, result.err) == (0, "", "The ledger has no rows.\n")


# ── usage ────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(params=["waiting", "exported", "both"])
def used(bench, request):
    """The same rows, wherever they are."""
    if request.param == "both":
        bench.append(ROWS[0], ROWS[3])
        bench.run("ledger", "export")
        bench.append(*ROWS)
    else:
        bench.append(*ROWS)
    if request.param == "exported":
        bench.run("ledger", "export")
    return bench


def groups(result, *names):
    return [tuple(group[name] for name in names) for group in result.document["groups"]]


def test_usage_is_a_table_of_spend_by_tenant(used):
    result = used.run("usage")
    assert result.code == 0
    assert [line.split() for line in result.out.splitlines()] == [
        "TENANT RUNS HITS INPUT CACHED INPUT OUTPUT COST USD CHARGED USD ABSORBED USD SAVED USD".split(),
        "acme 3 1 1,000 40 30 2.500001250 2.000001250 0.500000000 0.000000009".split(),
        "other 1 0 1 0 0 0.000000007 0.000000007 0.000000000 0.000000000".split(),
        "TOTAL 4 1 1,001 40 30 2.500001257 2.000001257 0.500000000 0.000000009".split(),
    ]


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("user", [("bob", 1, 2_000_000_000), ("ann", 2, 1_250), (None, 1, 7)]),
        ("feature", [(None, 3, 2_000_000_007), ("chat", 1, 1_250)]),
        ("model", [("gpt-5", 3, 2_000_001_257), (None, 1, 0)]),
        ("cache", [("hit", 1, 2_000_000_000), (None, 3, 1_257)]),
        ("key", [(None, 3, 2_000_000_007), ("vk_1", 1, 1_250)]),
        ("day", [("2026-11-20", 2, 1_257), ("2026-11-21", 2, 2_000_000_000)]),
    ],
)
def test_usage_by_each_dimension(used, by, expected):
    assert groups(used.run("usage", "--by", by, "--json"), by, "runs", "charged_nusd") == expected


def test_usage_by_several(used):
    result = used.run("usage", "--by", "day,user", "--tenant", "acme", "--json")
    assert groups(result, "day", "user", "runs") == [
        ("2026-11-20", "ann", 1),
        ("2026-11-21", "ann", 1),
        ("2026-11-21", "bob", 1),
    ]


def test_usage_for_programs_is_whole(used):
    result = used.run("usage", "--by", "user", "--tenant", "acme", "--until", "2026-11-21", "--json")
    totals = {
        "runs": 1,
        "input_tokens": 100,
        "cached_input_tokens": 40,
        "cache_write_tokens": 3,
        "output_tokens": 10,
        "reasoning_tokens": 4,
        "cost_nusd": 1_250,
        "charged_nusd": 1_250,
        "absorbed_nusd": 0,
        "saved_nusd": 0,
        "hits": 0,
    }
    assert result.document == {"by": ["user"], "groups": [{"user": "ann", **totals}], "total": totals}
    rows = list(csv.reader(io.StringIO(used.run("usage", "--by", "user,tenant", "--csv").out)))
    assert rows[0] == ["user", "tenant", *totals]
    assert rows[1:] == [
        ["bob", "acme", "1", "900", "0", "0", "20", "0", "2500000000", "2000000000", "500000000", "9", "1"],
        ["ann", "acme", "2", "100", "40", "3", "10", "4", "1250", "1250", "0", "0", "0"],
        ["", "other", "1", "1", "0", "0", "0", "0", "7", "7", "0", "0", "0"],
    ]


@pytest.mark.parametrize(
    ("words", "runs"),
    [
        (("--since", "2026-11-21"), 2),
        (("--until", "2026-11-21"), 2),
        (("--since", "2026-11-21", "--until", "2026-11-22"), 2),
        (("--since", "2026-11-21T23:59:59.999Z"), 1),
        (("--until", "2026-11-21T23:59:59.999Z"), 3),
        (("--since", "2026-11-22T00:59:59+01:00"), 1),
        (("--since", "1000w"), 4),
        (("--until", "1000w"), 0),
    ],
)
def test_usage_of_a_time(used, words, runs):
    assert used.run("usage", "--json", *words).document["total"]["runs"] == runs


def test_an_adjustment_adds_its_difference_and_is_no_run(bench):
    bench.append(*ROWS, row(9, kind="adjustment", adjusts="r2", user="bob", charged_nusd=-1_999_999_999, cost_nusd=-1))
    result = bench.run("usage", "--by", "user", "--tenant", "acme", "--json")
    assert groups(result, "user", "runs", "charged_nusd", "cost_nusd") == [
        ("ann", 2, 1_250, 1_250),
        ("bob", 1, 1, 2_499_999_999),
    ]


def test_usage_of_nothing_says_so(bench):
    result = bench.run("usage")
    assert (result.code, result.out, result.err) == (0, "", "No runs.\n")


def test_usage_says_that_old_pages_are_not_counted(bench):
    for number in range(1, 4):
        bench.append(row(number))
        bench.run("ledger", "export")
    bench.page(1).unlink()
    result = bench.run("usage")
    assert result.err == "Pages 1 to 1 of acme are not in the sink: they are not counted.\n"
    assert result.out.splitlines()[-1].split()[:2] == ["TOTAL", "2"]
    bench.page(2).rename(bench.page(1))
    assert bench.run("usage").code == 1  # a hole in the middle is no archive


@pytest.mark.parametrize("data", [b"no json", b"[1]", b'{"input_tokens":"7"}'])
def test_a_row_that_is_none_is_said(bench, data):
    bench.append(SealedRow("acme", "r1", data))
    result = bench.run("usage")
    assert result.code == 1
    assert result.err.startswith("tollway: the ledger of acme cannot be read: ")


def test_names_do_not_steer_the_terminal(bench):
    bench.append(row(1, requested_model="\x1b[2Jgpt\n"))
    result = bench.run("usage", "--by", "model")
    assert "\x1b" not in result.out
    assert len(result.out.splitlines()) == 3


@pytest.mark.parametrize(
    "words",
    [
        ("usage", "--by", "colour"),
        ("usage", "--by", "day,day"),
        ("usage", "--by", ""),
        ("usage", "--since", "yesterday"),
        ("usage", "--since", "2026-11-21T12:00"),  # of which zone?
        ("usage", "--tenant", "a b"),
        ("ledger",),
        ("ledger", "verify", "--from-page", "0"),
    ],
)
def test_what_cannot_be_meant_is_refused(bench, words, capsys):
    with pytest.raises(SystemExit) as ended:
        bench.run(*words)
    assert ended.value.code == 2
    capsys.readouterr()


# ── progress ─────────────────────────────────────────────────────────────────────────────


def test_a_long_command_shows_how_far_it_is_on_a_terminal_alone(bench, monkeypatch):
    bench.append(*ROWS)
    monkeypatch.setattr("proxy.cli.progress.SILENT_US", 0)
    screen = Screen()
    shown = bench.run("ledger", "export", screen=screen)
    assert "\r3 rows exported\x1b[K" in shown.err
    assert shown.err.endswith("\r\x1b[K")
    assert bench.run("usage").err == ""
    assert bench.run("usage", "--json", screen=Screen()).err == ""


def test_a_short_command_shows_none(bench):
    bench.append(*ROWS)
    assert "rows" not in bench.run("ledger", "export", screen=Screen()).err


# ── audit list ───────────────────────────────────────────────────────────────────────────


def test_changes_are_listed_exported_or_not_and_no_run_among_them(bench):
    hostile = '","kind":"audit","x":"'
    bench.append(SealedRow("acme", "r1", jsonio.encode({"run_id": "r1", "kind": "run", "user": hostile})))
    bench.run("tenants", "put", "acme", "--timezone", "Asia/Tokyo")
    bench.run("ledger", "export")
    issued = bench.run("keys", "issue", "--tenant", "acme", "--user", "a\u202eb", "--json").document
    bench.run("tenants", "put", "other")
    changes = bench.run("audit", "list", "--json").document["changes"]
    assert [(row["action"], row["tenant"], row["virtual_key_id"]) for row in changes] == [
        ("tenant.put", "acme", None),
        ("virtual_key.issue", "acme", issued["id"]),
        ("tenant.put", "other", None),
    ]
    heading, first, second = bench.run("audit", "list", "--tenant", "acme").out.splitlines()
    assert heading.split() == ["WHEN", "WHO", "WHAT", "TENANT", "VIRTUAL", "KEY", "DETAILS"]
    assert first.endswith(
        'tenant.put         acme                               {"is_new":true,"timezone":"Asia/Tokyo"}'
    )
    assert second.endswith('{"user":"a\ufffdb"}')  # nothing of it steers the terminal
    assert issued["virtual_key"][4:] not in second


def test_changes_since_then_alone(bench):
    bench.run("tenants", "put", "acme")
    assert len(bench.run("audit", "list", "--since", "1h", "--json").document["changes"]) == 1
    result = bench.run("audit", "list", "--since", "2099-01-01")
    assert (result.code, result.out, result.err) == (0, "", "No changes.\n")
