"""What operators have taken out of service at run time.

Pure. A deployment is drained: it gets no new call. A model is switched: another alias serves in its place. Both hold
whatever configuration is in force, until they are taken back.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NamedTuple

from proxy.core import jsonio


class SwitchKind(StrEnum):
    """What is taken out of service."""

    DEPLOYMENT = "deployment"
    MODEL = "model"


_KINDS: Final = frozenset(SwitchKind)


class Switch(NamedTuple):
    """One of them. The instant is milliseconds since the Unix epoch."""

    kind: SwitchKind
    name: str  # a deployment's label, or an alias
    to: str | None  # the alias that serves in a model's place
    by: str  # an admin token's name, or `cli:` and the system's user
    at_ms: int


class Switches(NamedTuple):
    """All of them, as a call's way asks for them."""

    drained: frozenset[str] = frozenset()  # labels
    switched: Mapping[str, str] = MappingProxyType({})  # from alias to alias


NO_SWITCHES: Final = Switches()


class SwitchSlot:
    """Where those in force stand. Assignment is the swap."""

    __slots__ = ("current",)

    def __init__(self, first: Switches = NO_SWITCHES) -> None:
        self.current = first


def in_force(switches: Iterable[Switch]) -> Switches:
    """What they come to."""
    listed = list(switches)
    if not listed:
        return NO_SWITCHES
    drained = frozenset(each.name for each in listed if each.kind is SwitchKind.DEPLOYMENT)
    switched = {each.name: each.to for each in listed if each.kind is SwitchKind.MODEL and each.to is not None}
    return Switches(drained, MappingProxyType(switched))


def encode(switch: Switch) -> bytes:
    """As the stores keep it: one JSON object. Its kind and name are what they keep it under."""
    return jsonio.encode({"to": switch.to, "by": switch.by, "at_ms": switch.at_ms})


def decode_all(rows: Iterable[tuple[str, str, bytes]]) -> list[Switch]:
    """The switches behind stored rows (kind, name, record), by kind and name. What a later release added, a kind or a
    field, is passed over: while releases take turns, each goes by what it knows."""
    return sorted(
        (_decode(SwitchKind(kind), name, data) for kind, name, data in rows if kind in _KINDS),
        key=lambda switch: (switch.kind, switch.name),
    )


def _decode(kind: SwitchKind, name: str, data: bytes) -> Switch:
    fields = jsonio.parse(data)
    return Switch(kind, name, fields.get("to"), fields["by"], fields["at_ms"])
