"""What the state store knows of a tenant's kept answers: the secret that names them, and what was purged.

It is never thrown away, wherever the answers are. In Redis, of a tenant T:

    tollway:1:{T}:cache    hash: secret; purged (ms); purged:ALIAS (ms)

What was purged is read by `admission/hit.lua`, in the step that gives an answer out: so a purge holds for every
process, and for what is kept in their memories.
"""

import secrets
from typing import Final, Protocol

from proxy.adapters.redis import RedisDoor, Script, tenant_name
from proxy.adapters.redis_wire import Argument
from proxy.cache.fingerprint import SECRET_BYTES

ALIASES_MAX: Final = 1_000
"""So many models of one tenant are purged each for itself; with the next one, all are."""


class CacheBook(Protocol):
    """What the state store knows of a tenant's kept answers: it is never thrown away, wherever those are."""

    async def secret(self, tenant_id: str) -> bytes:
        """32 random bytes, the same for every process, made when they are first asked for. Raises
        StateUnavailable."""
        ...

    async def purge(self, tenant_id: str, alias: str | None, before_ms: int) -> None:
        """Serve nothing any more whose provider was asked before that instant: of one model, or of all. What was
        purged stays purged: an earlier instant changes nothing. Raises StateUnavailable."""
        ...

    async def end(self, tenant_id: str, ahead_ms: int) -> None:
        """Serve nothing any more whose provider was asked before `ahead_ms` from now, by the clock of whoever keeps
        this book, and forget the secret: whoever asks for it then is given another. Raises StateUnavailable."""
        ...


class RedisCacheBook:
    """In Redis."""

    __slots__ = ("_door", "_end", "_purge", "_secret")

    def __init__(self, door: RedisDoor) -> None:
        """Reads its scripts: blocks on the disk for a moment."""
        self._door = door
        self._secret = Script.beside(__file__, "secret.lua")
        self._purge = Script.beside(__file__, "purge.lua")
        self._end = Script.beside(__file__, "end.lua")

    async def secret(self, tenant_id: str) -> bytes:
        fresh = secrets.token_bytes(SECRET_BYTES)
        secret = await self._door.run(self._secret, [tenant_name(tenant_id, "cache")], [fresh])
        assert isinstance(secret, bytes)
        return secret

    async def purge(self, tenant_id: str, alias: str | None, before_ms: int) -> None:
        args: list[Argument] = ["" if alias is None else alias, before_ms, ALIASES_MAX]
        await self._door.run(self._purge, [tenant_name(tenant_id, "cache")], args)

    async def end(self, tenant_id: str, ahead_ms: int) -> None:
        await self._door.run(self._end, [tenant_name(tenant_id, "cache")], [ahead_ms])
