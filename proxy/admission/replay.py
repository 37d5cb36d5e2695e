"""What a journal still asks of the store: read from its segments, a bounded part at a time.

Two things can be owed. What was never answered is owed by a process that is gone. What was
answered in an earlier life of the store (the epoch in a segment's head) is owed again: that
life may have ended with a loss. All of it can be asked of the store any number of times, as
long as the store remembers what it did; nothing older is asked.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from proxy.adapters.journal_file import Segment, lines
from proxy.admission.journal import KEPT_S
from proxy.admission.records import Ending, Head, Releasing, Reserved, Settling, mark_of, record_of
from proxy.admission.terms import Demand, RunStep

# The store remembers a settlement for an hour, and an expired reservation for a day. What is asked
# after that could be charged twice.
SETTLED_KNOWN_MS = (KEPT_S - 300) * 1_000
EXPIRED_KNOWN_MS = 23 * 3_600_000


class Owed(NamedTuple):
    """What one segment asks of the store."""

    reservations: Sequence[Demand] = ()
    endings: Sequence[Ending] = ()


def undone(found: Iterable[Segment]) -> frozenset[RunStep]:
    """The runs of which a journal does not say what became of them. Blocks on the disk, as all here."""
    left: set[tuple[bytes, bytes, bytes]] = set()
    for segment in found:
        for line in lines(segment):
            mark = mark_of(line)
            if mark is None:
                continue
            if mark.is_done:
                left.discard(mark.run_step)
            else:
                left.add(mark.run_step)
    return frozenset(RunStep(tenant_id.decode(), run_id.decode(), int(step)) for tenant_id, run_id, step in left)


def epoch_of(segment: Segment) -> str:
    """The life of the store in which all in a segment happened; "" where it does not say."""
    head = record_of(next(lines(segment), b""))
    return head.epoch if isinstance(head, Head) else ""


def may_be_lost(segment: Segment, epoch: str) -> bool:
    """Whether anything in a segment happened in another life of the store than this."""
    first = next(lines(segment), b"")
    return segment.bytes > len(first) + 1 and record_of(first) != Head(epoch)


def owed(segment: Segment, left: frozenset[RunStep], *, epoch: str, now_ms: int) -> Owed:
    """What a segment asks. `left` are the runs that nobody else sees to."""
    began_in = epoch_of(segment)
    is_lost, since_ms = began_in != epoch, now_ms - SETTLED_KNOWN_MS
    if not left and (not is_lost or segment.changed_at_ms < since_ms):
        return Owed()
    reservations: dict[RunStep, Demand] = {}
    endings: list[Ending] = []
    for line in lines(segment):
        match record_of(line):
            case Reserved(at_ms, demand) if is_lost and demand.run_step in left and at_ms >= now_ms - EXPIRED_KNOWN_MS:
                reservations[demand.run_step] = demand  # the last one: it may have grown
            case Settling(at_ms, run_step) as settling if run_step in left or (is_lost and at_ms >= since_ms):
                endings.append(settling._replace(epoch=began_in))
            # A replica that was promoted may still hold what had been let go.
            case Releasing(at_ms, run_step) as releasing if run_step in left or (is_lost and at_ms >= since_ms):
                endings.append(releasing)
    return Owed(tuple(reservations.values()), endings)
