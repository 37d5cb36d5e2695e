"""What is in a Redis that tests share."""

from collections.abc import Iterable

from proxy.adapters.redis import RedisDoor
from proxy.adapters.redis_wire import Reply


async def redis_contents(door: RedisDoor) -> bytes:
    """All names and values. Read by type: a DUMP would be compressed."""
    names = await door.call("KEYS", "*")
    assert isinstance(names, list)
    pieces: list[bytes] = []
    for name in names:
        assert isinstance(name, bytes)
        kind = await door.call("TYPE", name)
        command: list[str | bytes | int]
        match kind:
            case b"string":
                command = ["GET", name]
            case b"hash":
                command = ["HGETALL", name]
            case b"set":
                command = ["SMEMBERS", name]
            case b"zset":
                command = ["ZRANGE", name, 0, -1]
            case b"list":
                command = ["LRANGE", name, 0, -1]
            case b"stream":
                command = ["XRANGE", name, "-", "+"]
            case _:
                raise AssertionError(f"{name!r} is a {kind!r}")
        pieces += [name, *_flat(await door.call(*command))]
    return b"\n".join(pieces)


def _flat(reply: Reply) -> Iterable[bytes]:
    if isinstance(reply, list):
        for part in reply:
            yield from _flat(part)
    elif reply is not None:
        yield reply if isinstance(reply, bytes) else str(reply).encode()
