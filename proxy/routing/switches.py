"""What operators have taken out of service at run time, as a value.

Pure. It is read from the state store (`routing.store`), and holds whatever configuration is in force.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple


class Switches(NamedTuple):
    """Which deployments get no new call, by label, and which aliases are served by others."""

    drained: frozenset[str] = frozenset()
    switched: Mapping[str, str] = MappingProxyType({})


NO_SWITCHES: Final = Switches()


class SwitchSlot:
    """Where the switches in force stand. Assignment is the swap."""

    __slots__ = ("current",)

    def __init__(self, first: Switches = NO_SWITCHES) -> None:
        self.current = first
