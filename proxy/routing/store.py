"""Where switches are kept: what every store does, and how Redis does it.

In Redis: `tollway:1:@:switches`, a hash from `deployment:LABEL` and `model:ALIAS` to a record. Every gateway process
reads it twice a second.
"""

from collections.abc import Sequence
from typing import Protocol

from proxy.adapters.redis import RedisDoor, shared_name
from proxy.routing.switches import Switch, SwitchKind, decode_all, encode

_SWITCHES = shared_name("switches")


class SwitchStore(Protocol):
    """Keeps switches by kind and name. Every method is one round trip, and raises StateUnavailable."""

    async def read(self) -> Sequence[Switch]:
        """All of them, by kind and name."""
        ...

    async def put(self, switch: Switch) -> None:
        """Keep one, in the place of an earlier one. Safe to repeat."""
        ...

    async def remove(self, kind: SwitchKind, name: str) -> bool:
        """Forget one. False where there was none."""
        ...


class RedisSwitchStore:
    """Switches in Redis."""

    __slots__ = ("_door",)

    def __init__(self, door: RedisDoor) -> None:
        self._door = door

    async def read(self) -> Sequence[Switch]:
        reply = await self._door.call("HGETALL", _SWITCHES)
        assert isinstance(reply, list), "a hash comes as names and values by turns"
        rows = []
        for field, data in zip(reply[::2], reply[1::2], strict=True):
            assert isinstance(field, bytes)
            assert isinstance(data, bytes)
            kind, _, name = field.decode().partition(":")
            rows.append((kind, name, data))
        return decode_all(rows)

    async def put(self, switch: Switch) -> None:
        await self._door.call("HSET", _SWITCHES, f"{switch.kind}:{switch.name}", encode(switch))

    async def remove(self, kind: SwitchKind, name: str) -> bool:
        return await self._door.call("HDEL", _SWITCHES, f"{kind}:{name}") == 1
