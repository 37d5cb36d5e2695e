"""What a journal says, one line a record.

Pure. A line is a checksum (CRC-32, eight hex digits), a space and a JSON array that begins with
the record's name, which each record's `text` is; opaque rows are base64 in it. A line that was torn, or
that is damaged, is no record: `record_of` gives None. Nothing here can hold a prompt, a completion or a provider's key:
rows cannot.

What is known of a run follows from its records in order: reserved → settling or releasing → done.
"""

import base64
import binascii
import re
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

from proxy.admission.ending import Bill
from proxy.admission.terms import TIME_MS_MAX, Demand, RunStep, ScopeDemand, Touched, Window, WindowKind, outline_of
from proxy.core import jsonio
from proxy.core.errors import InvalidJson

_CHECKSUM_CHARS = 8
# How a record of a run begins. Ids of tenants and runs hold nothing that JSON would escape.
_OF_RUN = re.compile(
    rb'\["(?:(done)"|(?:reserved|settling|releasing)",[0-9]+),"([A-Za-z0-9_-]+)","([A-Za-z0-9_-]+)",([0-9]+)[,\]]'
)
_KINDS = {"h": WindowKind.HOUR, "d": WindowKind.DAY, "m": WindowKind.MONTH, "t": WindowKind.TOTAL}


class Head(NamedTuple):
    """The first record of a segment: the store's life in which the rest of it happened; "" before
    this process knew one."""

    epoch: str

    def text(self) -> bytes:
        return jsonio.encode(["head", self.epoch])


class Reserved(NamedTuple):
    """The store holds this. Of the demand, only what puts it back is kept; a second one of the same name
    replaces the first: the hold has grown."""

    at_ms: int
    demand: Demand

    def text(self) -> bytes:
        demand = self.demand
        numbers = (demand.held_nusd, demand.expected_tokens, demand.lease_ms)
        begins = jsonio.encode(["reserved", self.at_ms, *demand.run_step, *numbers])
        return b'%b,%b,"%b"]' % (begins[:-1], demand.outline.touched_text, _base64(demand.row))


class Settling(NamedTuple):
    """A call has ended and cost this; the store may know it already, or not yet."""

    at_ms: int
    run_step: RunStep
    touched: tuple[Touched, ...]
    bill: Bill
    epoch: str = ""  # the store's life in which it began; on the disk, the segment's head says so

    def text(self) -> bytes:
        at_ms, run_step, touched, (cost_nusd, tokens, row), _ = self
        begins = jsonio.encode(["settling", at_ms, *run_step, list(map(tuple, touched)), cost_nusd, tokens])
        return b'%b,"%b"]' % (begins[:-1], _base64(row))


class Releasing(NamedTuple):
    """A reservation, or one of which nobody knows whether it is one, is being let go."""

    at_ms: int
    run_step: RunStep

    def text(self) -> bytes:
        return jsonio.encode(["releasing", self.at_ms, *self.run_step])


class Done(NamedTuple):
    """The store has said what became of it."""

    run_step: RunStep

    def text(self) -> bytes:
        return jsonio.encode(["done", *self.run_step])


Record: TypeAlias = Head | Reserved | Settling | Releasing | Done
Ending: TypeAlias = Settling | Releasing


def line_of(record: Record) -> bytes:
    """A record as its line, with the line's end."""
    text = record.text()
    return b"%08x %b\n" % (zlib.crc32(text), text)


def record_of(line: bytes) -> Record | None:
    """What a line says, with or without its end; None where it is torn or damaged."""
    text = line[_CHECKSUM_CHARS + 1 :].rstrip(b"\n")
    if line[: _CHECKSUM_CHARS + 1] != b"%08x " % zlib.crc32(text):
        return None
    try:
        return _record(jsonio.parse(text))
    except (InvalidJson, ValueError, TypeError, KeyError, IndexError, binascii.Error):
        return None  # a later release's, perhaps


class Mark(NamedTuple):
    """That a record tells of a run, and whether it is the last one of it."""

    is_done: bool
    run_step: tuple[bytes, bytes, bytes]  # as it stands there: see `RunStep`


def mark_of(line: bytes) -> Mark | None:
    """Of which run a line, without its end, tells; None: of none, or it is torn or damaged. The rest of it is not
    read, which is most: a start goes through an hour of them."""
    text = line[_CHECKSUM_CHARS + 1 :]
    found = _OF_RUN.match(text)
    if found is None or line[: _CHECKSUM_CHARS + 1] != b"%08x " % zlib.crc32(text):
        return None
    done, tenant_id, run_id, step = found.groups()
    return Mark(done is not None, (tenant_id, run_id, step))


def _record(array: Sequence[Any]) -> Record | None:
    match array:
        # An older release kept an adjustment behind the row, which is made of it where it is needed.
        case ["settling", at_ms, tenant_id, run_id, step, touched, cost_nusd, tokens, row, *older] if len(older) <= 1:
            bill = Bill(cost_nusd, tokens, _opaque(row))
            return Settling(at_ms, RunStep(tenant_id, run_id, step), _touched(touched), bill)
        case ["reserved", at_ms, tenant_id, run_id, step, held_nusd, expected_tokens, lease_ms, touched, row]:
            scopes = tuple(_scope_demand(entry) for entry in _touched(touched))
            demand = Demand(
                RunStep(tenant_id, run_id, step),
                held_nusd,
                expected_tokens,
                outline_of(scopes),
                lease_ms,
                virtual_key_id=None,
                row=_opaque(row),
            )
            return Reserved(at_ms, demand)
        case ["done", tenant_id, run_id, step]:
            return Done(RunStep(tenant_id, run_id, step))
        case ["releasing", at_ms, tenant_id, run_id, step]:
            return Releasing(at_ms, RunStep(tenant_id, run_id, step))
        case ["head", str() as epoch]:
            return Head(epoch)
    return None


def _touched(array: Sequence[Any]) -> tuple[Touched, ...]:
    return tuple(Touched(scope, per_minute, tuple(periods)) for scope, per_minute, periods in array)


def _scope_demand(entry: Touched) -> ScopeDemand:
    """What puts a reservation back into a scope: its counters. Limits and caps are not asked again."""
    windows = tuple(_window(period) for period in entry.periods)
    return ScopeDemand(entry.scope, tokens_per_minute=entry.tokens_per_minute or None, windows=windows)


def _window(period: str) -> Window:
    kind = _KINDS[period[0]]
    start_ms = 0 if kind is WindowKind.TOTAL else int(period[1:]) * 1_000
    return Window(kind, start_ms, TIME_MS_MAX, None, period)


def _base64(opaque: bytes) -> bytes:
    return binascii.b2a_base64(opaque, newline=False)


def _opaque(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
