"""What the exporter wrote is loaded into a real PostgreSQL, by the commands of docs/ledger.md."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from proxy.adapters.sqlite import SqliteDoor
from proxy.core.clock import Clock
from proxy.ledger.change import ChangeEntry, encode_change
from proxy.ledger.embedded import EmbeddedLedgerStore
from proxy.ledger.entry import Entry, encode
from proxy.ledger.exporter import Exporter, ExportPace
from proxy.ledger.sink_file import FileSink
from tests.ledger_crash import Observed
from tests.postgres_server import PostgresServer, find_postgres

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = ROOT / "config" / "ledger.sql"
NAMES = ['we"ird\\', "Zoë 🎉", "a\x00b", "tab\tquote'", "\\u0000", ""]
COUNT = 2_500

pytestmark = pytest.mark.skipif(
    find_postgres() is None or shutil.which("psql") is None,
    reason="PostgreSQL's server and psql are not installed (Debian and Ubuntu: apt install postgresql)",
)


CHANGE = ChangeEntry(
    run_id="audit_1",
    started_at="2026-11-26T08:04:46.510Z",
    kind="audit",
    tenant="acme",
    virtual_key_id="vk_1",
    config_version="000000000000",
    actor="ci",
    action="virtual_key.issue",
    details={"user": "Zoë", "models": ["gpt-5"]},
)


def entry(number: int) -> Entry:
    return Entry(
        run_id=f"r{number}",
        started_at=f"2026-11-{1 + number % 28:02d}T12:00:00.045Z",
        kind="run" if number % 10 else "adjustment",
        adjusts=None if number % 10 else f"r{number - 1}",
        tenant="acme",
        user=NAMES[number % len(NAMES)],
        feature=None,
        virtual_key_id="vk_1",
        prompt_id=None,
        prompt_version=None,
        config_version="000000000000",
        endpoint="chat_completions",
        requested_model=NAMES[number % len(NAMES)],
        rule=None,
        split=None,
        served_model="gpt-5",
        provider="openai",
        deployment="openai/gpt-5",
        attempts=1,
        given_up=None,
        fallback_reason=None,
        translated=None,
        dropped_fields=None,
        stream=number % 2 == 0,
        status=200,
        error_source=None,
        input_tokens=number,
        cached_input_tokens=0,
        cache_write_tokens=0,
        output_tokens=7,
        reasoning_tokens=None,
        usage_source="exact",
        price_version="2026-11-20",
        held_nusd=number * 2_000_000 if number % 10 else 0,
        cost_nusd=number * 1_000_003,
        charged_nusd=number * 1_000_003 if number % 10 else -number,
        absorbed_nusd=0,
        saved_nusd=None,
        key_source="gateway",
        cache=None,
        latency_ms=12.5,
        first_byte_ms=None,
        overhead_us=80,
    )


def test_the_schema_has_every_field_of_a_row_and_no_other():
    table = re.search(r"(?ms)^CREATE TABLE IF NOT EXISTS tollway_ledger \((.*?)^\);", SCHEMA.read_text())
    assert table is not None
    columns = re.findall(r'(?m)^    "?([a-z_]+)"? [a-z]', table[1])
    assert columns == list(Entry.__annotations__)


def documented_commands() -> list[str]:
    """The shell's lines of docs/ledger.md that load pages."""
    section = (ROOT / "docs" / "ledger.md").read_text().split("## In PostgreSQL", 1)[1]
    block = re.search(r"(?ms)^```console\n(.*?)^```", section)
    assert block is not None
    return [line.removeprefix("$ ") for line in block[1].replace("\\\n", " ").splitlines() if line.startswith("$ ")]


def shell(command: str, folder: Path, server: PostgresServer) -> None:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder,
        env=server.environ,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr


async def test_pages_are_loaded_with_the_documented_commands(tmp_path):
    entries = [entry(number) for number in range(1, COUNT + 1)]
    async with SqliteDoor(tmp_path / "tollway.db") as door:
        store = EmbeddedLedgerStore(door)
        await store.append([encode(one) for one in entries])
        await store.append([encode_change(CHANGE)])
        sink = FileSink(tmp_path / ".tollway" / "ledger")
        turn = await Exporter(store, sink, Observed(), Clock(), "a", ExportPace(seal_rows_max=1_000)).run_once()
    assert (turn.rows, turn.pages) == (COUNT + 1, 3)
    shutil.copytree(ROOT / "config", tmp_path / "config")
    with PostgresServer() as server:
        for _ in range(2):  # a page that is loaded again adds nothing
            for command in documented_commands():
                shell(command, tmp_path, server)
        charged_nusd = sum(one["charged_nusd"] or 0 for one in entries)
        by_table = server.psql("-c", "SELECT count(*), sum(charged_nusd), sum(input_tokens) FROM tollway_ledger")
        assert by_table == f"{COUNT + 1}|{charged_nusd}|{COUNT * (COUNT + 1) // 2}"
        assert server.psql("-c", "SELECT count(*) FROM tollway_ledger_lines") == "0"
        one = "SELECT \"user\", stream, adjusts, started_at AT TIME ZONE 'UTC' FROM tollway_ledger WHERE run_id = 'r7'"
        assert server.psql("-c", one) == "Zoë 🎉|f||2026-11-08 12:00:00.045"
        change = (
            "SELECT run_id, actor, action, virtual_key_id, details ->> 'user' FROM tollway_ledger WHERE kind = 'audit'"
        )
        assert server.psql("-c", change) == "audit_1|ci|virtual_key.issue|vk_1|Zoë"
        adjustments = "SELECT count(*) FROM tollway_ledger WHERE kind = 'adjustment' AND adjusts IS NOT NULL"
        assert server.psql("-c", adjustments) == str(COUNT // 10)
