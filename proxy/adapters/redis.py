"""The door to Redis or Valkey: commands and scripts, each bounded in time, errors mapped once.

Nothing repeats a command by itself: a script that timed out may have run, and only the store
that sent it knows how to ask again (by run id). Scripts, which calls wait for, have a connection
of their own; a page of the ledger, which may be megabytes, comes over the other one. Names of what is stored begin
`tollway:1:{tenant}:`, so that a tenant's state lies in one cluster slot; what spans tenants
begins `tollway:1:@:` and is written in calls of its own.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Self, cast

from proxy.adapters.redis_wire import Argument, RedisWire, Reply, WireAddress, WireError, WireSilent
from proxy.core.errors import StateIncompatible, StateUnavailable
from proxy.core.tenant import require_tenant_id

SCHEMA = 1
SCHEMA_NAME = f"tollway:{SCHEMA}:@:schema"
CALL_TIMEOUT_S = 0.25
RETRY_AFTER_MS = 1_000
_TENANTS_MAX = 16_384
_REFUSAL_CHARS_MAX = 200  # of Redis's own words; a script's fault has its whole line in them


class Script:
    """A Lua script and the digest that Redis knows it by."""

    __slots__ = ("sha1", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha1 = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    @classmethod
    def beside(cls, module_file: str, name: str) -> Self:
        """The script in a file beside the module that runs it. Blocks on the disk: call it at start."""
        return cls((Path(module_file).parent / name).read_text(encoding="utf-8"))


def tenant_name(tenant_id: str, rest: str) -> str:
    """The name in Redis of something that belongs to one tenant.

    Raises:
        ValueError: not a tenant's id; it could reach into another tenant's state.
    """
    return f"{_tenant_prefix(tenant_id)}{rest}"


@lru_cache(maxsize=_TENANTS_MAX)
def _tenant_prefix(tenant_id: str) -> str:
    return f"tollway:{SCHEMA}:{{{require_tenant_id(tenant_id)}}}:"


def shared_name(rest: str) -> str:
    """The name in Redis of something that spans tenants."""
    return f"tollway:{SCHEMA}:@:{rest}"


class RedisDoor:
    """One process's connections to Redis. Belongs to the event loop that uses it first."""

    __slots__ = ("_commands", "_schema_lock", "_schema_seen", "_wire", "server_changes", "server_run_id")

    def __init__(self, url: str) -> None:
        """Connects to nothing yet.

        Raises:
            ValueError: a URL that is neither `redis://` nor `rediss://`.
        """
        address = WireAddress.of(url)
        self._wire = RedisWire(address, CALL_TIMEOUT_S, self._note_server)  # of scripts
        self._commands = RedisWire(address, CALL_TIMEOUT_S, self._note_server)
        # The server process behind the newest connection, and how often another one was found there. A server
        # that was restarted, or promoted in the place of another, may have lost what was acknowledged.
        self.server_run_id = ""
        self.server_changes = 0
        self._schema_lock = asyncio.Lock()
        self._schema_seen = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.close()

    async def call(self, *command: Argument) -> Reply:
        """Send one command.

        Raises:
            StateUnavailable: no answer within 250 ms, or an error; it may have been carried out.
            StateIncompatible: the store belongs to a newer release.
        """
        return await self._ask(self._commands, command, None)

    async def call_many(self, commands: Sequence[Sequence[Argument]]) -> list[Reply]:
        """Send several commands in one round trip, in order, each for itself. Raises as `call`, once all have ended."""
        if not self._schema_seen:
            await self._see_schema()
        try:
            replies = await self._commands.ask_all(commands)
        except WireError as error:
            raise _unavailable(error) from error
        for reply in replies:
            if isinstance(reply, Exception):
                raise _unavailable(reply) from reply
        return cast(list[Reply], replies)

    async def run(
        self,
        script: Script,
        redis_keys: Sequence[str],
        args: Sequence[Argument],
        timeout_s: float | None = None,
        *,
        awake: bool = False,
    ) -> Reply:
        """Run one script; those that are asked for in one turn of the loop share a round trip. Raises as `call`;
        `timeout_s` is the time for it, where that is another than a call's; `awake`: a caller waits for it."""
        if not self._schema_seen:
            await self._see_schema()
        command = ("EVALSHA", script.sha1, len(redis_keys), *redis_keys, *args)
        try:
            reply = await self._wire.ask(*command, timeout_s=timeout_s, awake=awake)
            if not isinstance(reply, Exception):
                return reply
            if str(reply).startswith("NOSCRIPT"):
                # After a restart or a promotion; EVAL runs it and loads it.
                reply = await self._wire.ask("EVAL", script.text, *command[2:], timeout_s=timeout_s)
        except WireError as error:
            raise _unavailable(error) from error
        if isinstance(reply, Exception):
            raise _unavailable(reply) from reply
        return reply

    async def ask(self, *command: Argument, timeout_s: float | None = None) -> Reply:
        """Send one command on the scripts' own connection: no page of the ledger is ever before it. Raises as `run`."""
        return await self._ask(self._wire, command, timeout_s)

    async def run_many(self, script: Script, calls: Sequence[tuple[Sequence[str], Sequence[Argument]]]) -> list[Reply]:
        """Run one script several times in one round trip. Its calls must not depend on each
        other's order: one that found no script is repeated after the rest. Raises as `call`, once all have ended."""
        replies = await self.run_each(script, calls)
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return cast(list[Reply], replies)

    async def run_each(
        self, script: Script, calls: Sequence[tuple[Sequence[str], Sequence[Argument]]]
    ) -> "list[Reply | StateUnavailable]":
        """Likewise, each for itself: one that failed has its error in the place of its reply.

        Raises:
            StateUnavailable: one has no reply; any of them may have been carried out.
        """
        if not self._schema_seen:
            await self._see_schema()
        sha1 = script.sha1
        try:
            found = await self._wire.ask_all([("EVALSHA", sha1, len(names), *names, *args) for names, args in calls])
        except WireError as error:
            raise _unavailable(error) from error
        replies = cast("list[Reply | StateUnavailable]", found)
        for place, reply in enumerate(found):
            if isinstance(reply, Exception):
                replies[place] = await self._run_again(script, calls[place], reply)
        return replies

    async def _run_again(
        self, script: Script, call: tuple[Sequence[str], Sequence[Argument]], error: Exception
    ) -> "Reply | StateUnavailable":
        """What to answer for one that Redis refused: where it only did not know the script, that is run after all."""
        if str(error).startswith("NOSCRIPT"):
            try:
                return await self.run(script, *call)
            except StateUnavailable as unavailable:
                return unavailable
        failed = _unavailable(error)
        failed.__cause__ = error
        return failed

    async def ping(self) -> None:
        """Ask whether the store is there. Raises as `call`."""
        await self.call("PING")

    async def check_keeps_everything(self) -> None:
        """Ask whether Redis keeps what it was given.

        Raises:
            StateUnavailable: as `call`.
            StateIncompatible: it is set to throw something away when its memory is full.
        """
        policy = _info(await self.call("INFO", "memory"), "maxmemory_policy")
        if policy not in ("", "noeviction"):
            raise StateIncompatible(
                f"Redis is set to maxmemory-policy {policy}: with its memory full it would throw away virtual keys, "
                "spend and ledger rows. Set maxmemory-policy noeviction."
            )

    async def close(self) -> None:
        """Close every connection. Safe to repeat."""
        await self._wire.close()
        await self._commands.close()

    def _note_server(self, info: Reply) -> None:
        """None: this user may not ask it; then only a lost epoch shows that something was lost."""
        run_id = "" if info is None else _info(info, "run_id")
        if run_id != self.server_run_id:
            if self.server_run_id:
                self.server_changes += 1
            self.server_run_id = run_id

    async def _ask(self, wire: RedisWire, command: Sequence[Argument], timeout_s: float | None) -> Reply:
        if not self._schema_seen:
            await self._see_schema()
        try:
            reply = await wire.ask(*command, timeout_s=timeout_s)
        except WireError as error:
            raise _unavailable(error) from error
        if isinstance(reply, Exception):
            raise _unavailable(reply) from reply
        return reply

    async def _see_schema(self) -> None:
        """Once per process, before anything is read or written."""
        async with self._schema_lock:  # the first calls come together, and one look serves them all
            if not self._schema_seen:
                await self._compare_schema()
                self._schema_seen = True

    async def _compare_schema(self) -> None:
        try:
            found = await self._commands.ask("GET", SCHEMA_NAME)
            if found is None:
                await self._commands.ask("SET", SCHEMA_NAME, str(SCHEMA), "NX")
                found = await self._commands.ask("GET", SCHEMA_NAME)
        except WireError as error:
            raise _unavailable(error) from error
        if isinstance(found, Exception):
            raise _unavailable(found) from found
        if found != str(SCHEMA).encode():
            shown = found.decode("ascii", "replace")[:32] if isinstance(found, bytes) else "nothing"
            raise StateIncompatible(
                f"The Redis database was written by another release of Tollway: its schema is {shown}, this "
                f"release knows {SCHEMA}. Start that release, or name another database in [state] url."
            )


def _info(reply: Reply, name: str) -> str:
    """One field of INFO; "" where there is none."""
    assert isinstance(reply, bytes)
    lines = reply.decode("utf-8", "replace").splitlines()
    return next((line.partition(":")[2] for line in lines if line.startswith(f"{name}:")), "")


def _unavailable(error: Exception) -> StateUnavailable:
    """Callers are told alike of every fault; its operators, of the one that it is."""
    message = "The gateway's state store did not answer in time. Try again shortly."
    match error:
        case WireSilent():
            cause = None
        case WireError():
            cause = str(error)
        case _:
            cause = f"Redis refuses: {str(error)[:_REFUSAL_CHARS_MAX]}"
    return StateUnavailable(message, retry_after_ms=RETRY_AFTER_MS, cause=cause)
