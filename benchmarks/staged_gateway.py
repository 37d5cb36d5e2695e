"""The gateway with a stopwatch on its stages: `python -m benchmarks.staged_gateway FOLDER serve --config …`.

SIGUSR1 sets it to zero; SIGUSR2 writes `stages.json` into the folder.
"""

import signal
import sys
from pathlib import Path
from typing import Final

from benchmarks.stopwatch import Stopwatch
from proxy.__main__ import main

LINE: Final = "the line itself"
STAGES: Final = {
    "the wire in: head, body, a task": (
        "proxy.edge.protocol:TollwayProtocol.data_received",
        "proxy.edge.connection:Connection.whole_body",
    ),
    LINE: ("proxy.edge.connection:Connection.run",),
    "who is calling": (
        "proxy.identity.authenticator:Authenticator.authenticate",
        "proxy.identity.tenants:Tenants.fresh",
        "proxy.identity.tenants:Tenants.find",
    ),
    "what is asked: parse, splice points": ("proxy.pipeline.line:read_call",),
    "where it may go": (
        "proxy.pipeline.choosing:Choosing.resolve",
        "proxy.pipeline.choosing:Choosing.choose",
        "proxy.pipeline.options:Options.first",
    ),
    "the cache": (
        "proxy.pipeline.caching:Caching.find",
        "proxy.pipeline.caching:Caching.copy",
        "proxy.pipeline.caching:Caching.close",
    ),
    "turns and shares": ("proxy.pipeline.gates:Gates.enter", "proxy.pipeline.gates:Gates.leave"),
    "limits and caps": (
        "proxy.pipeline.admittance:Admittance.admit",
        "proxy.pipeline.admittance:Admittance.passage",
    ),
    "attempts and breakers": ("proxy.pipeline.attempts:Attempts.answer",),
    "what is sent, and what began to come": ("proxy.pipeline.dispatch:Dispatch.send",),
    "the hop out: a connection, the write": ("proxy.adapters.http.transport:Transport.ask",),
    "the hop in: head and body": ("proxy.adapters.http.connection:Connection.buffer_updated",),
    "headers of the answer": (
        "proxy.pipeline.line:response_headers",
        "proxy.pipeline.line:relay_headers",
    ),
    "the relay: bytes out, usage heard": ("proxy.edge.relay:AsgiDownstream.relay",),
    "the write to the caller": ("proxy.edge.protocol:TollwayProtocol.write",),
    "the end: usage, row, metrics, log": (
        "proxy.pipeline.settlement:Settlement.close",
        "proxy.pipeline.settlement:Settlement.sum_up",
    ),
    "the state store: calls and answers": (
        "proxy.adapters.redis:RedisDoor.run",
        "proxy.adapters.redis:RedisDoor.run_many",
        "proxy.adapters.redis_wire:_Link.data_received",
    ),
    "rows to the ledger": ("proxy.pipeline.settlement:Settlement._write_rows",),
    "journal and settlements behind": ("proxy.admission.backlog:Backlog.run",),
}
"""By stage, what is timed of it; what is timed inside another is its own alone."""


def _watch() -> Stopwatch:
    watch = Stopwatch()
    for stage, places in STAGES.items():
        for place in places:
            watch.watch(stage, place)
    return watch


if __name__ == "__main__":
    _watch_ = _watch()
    folder = Path(sys.argv.pop(1))
    signal.signal(signal.SIGUSR1, lambda *_: _watch_.reset())
    signal.signal(signal.SIGUSR2, lambda *_: _watch_.write(folder / "stages.json"))
    sys.exit(main())
