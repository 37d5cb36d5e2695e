"""Lines that several processes write to one stream: none in the middle of another."""

import io
import json

import pytest

from proxy.telemetry.access_log import AccessLog

BLOCK_BYTES = 4_096


class Writes(io.BytesIO):
    """Remembers what was written at once."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks: list[bytes] = []

    def write(self, data: bytes, /) -> int:  # type: ignore[override]
        self.blocks.append(bytes(data))
        return len(data)


def written(lines: list[dict], *, is_shared: bool) -> list[bytes]:
    sink = Writes()
    log = AccessLog(sink, lambda _lines: None, is_shared=is_shared)
    for line in lines:
        log.write(line)
    log.start()
    log.close(10.0)
    return sink.blocks


@pytest.mark.parametrize("length", [10, 700, 3_000, 4_082])
def test_blocks_are_of_whole_lines_and_a_pipe_takes_each_as_one(length):
    lines = [{"n": number, "path": "p" * length} for number in range(50)]
    blocks = written(lines, is_shared=True)
    assert all(block.endswith(b"\n") and len(block) <= BLOCK_BYTES for block in blocks)
    assert [json.loads(line)["n"] for line in b"".join(blocks).splitlines()] == list(range(50))


def test_what_would_be_longer_is_shortened_where_it_is_long():
    (block,) = written([{"status": 200, "path": "ü" * 8_000, "model": "m" * 300, "peer": None}], is_shared=True)
    line = json.loads(block)
    assert line == {"status": 200, "path": "ü" * 256 + "…", "model": "m" * 256 + "…", "peer": None}
    assert len(block) <= BLOCK_BYTES


def test_one_process_alone_writes_all_at_once_and_nothing_is_shortened():
    lines = [{"path": "p" * 8_000}] * 3
    blocks = written(lines, is_shared=False)
    assert len(blocks) == 1
    assert [json.loads(line) for line in blocks[0].splitlines()] == lines
