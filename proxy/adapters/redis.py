"""The door to Redis or Valkey: commands and scripts, each bounded in time, errors mapped once.

The client never repeats a command by itself: a script that timed out may have run, and only
the store that sent it knows how to ask again (by run id). Names of what is stored begin
`tollway:1:{tenant}:`, so that a tenant's state lies in one cluster slot; what spans tenants
begins `tollway:1:@:` and is written in calls of its own.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar, cast
from urllib.parse import urlsplit

from proxy.adapters.redis_wire import Argument, RedisWire, Reply, WireAddress, WireError
from proxy.core.errors import StateIncompatible, StateUnavailable
from proxy.core.tenant import require_tenant_id

Result = TypeVar("Result")

SCHEMA = 1
SCHEMA_NAME = f"tollway:{SCHEMA}:@:schema"
CALL_TIMEOUT_S = 0.25
CONNECT_TIMEOUT_S = 0.25
CONNECTIONS_MAX = 32
RETRY_AFTER_MS = 1_000
URL_SCHEMES = ("redis", "rediss")


class _Pipeline(Protocol):
    """The little of redis-py's pipeline that is used here, typed."""

    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, *_error: object) -> None: ...
    def execute_command(self, *command: Argument) -> object: ...
    async def execute(self, *, raise_on_error: bool) -> "list[Reply | Exception]": ...


class _Client(Protocol):
    """Likewise of its client."""

    async def execute_command(self, *command: Argument) -> Reply: ...
    def pipeline(self, *, transaction: bool) -> _Pipeline: ...
    async def aclose(self, *, close_connection_pool: bool) -> None: ...


class _Connection(Protocol):
    """Likewise of one of its connections."""

    async def on_connect(self) -> None: ...
    async def send_command(self, *command: Argument) -> None: ...
    async def read_response(self) -> Reply: ...


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
    return f"tollway:{SCHEMA}:{{{require_tenant_id(tenant_id)}}}:{rest}"


def shared_name(rest: str) -> str:
    """The name in Redis of something that spans tenants."""
    return f"tollway:{SCHEMA}:@:{rest}"


class RedisDoor:
    """One process's connections to Redis. Belongs to the event loop that uses it first."""

    __slots__ = (
        "_client",
        "_errors",
        "_refused",
        "_schema_lock",
        "_schema_seen",
        "_under_way",
        "_wire",
        "server_changes",
        "server_run_id",
    )

    def __init__(self, url: str) -> None:
        """Connects to nothing yet.

        Raises:
            ValueError: a URL that is neither `redis://` nor `rediss://`.
        """
        if urlsplit(url).scheme not in URL_SCHEMES:
            raise ValueError("The state URL must begin with redis:// or rediss://.")
        from redis import exceptions  # imported only where Redis is configured

        self._client, address = _connectable(url, self._see_server)
        self._wire = RedisWire(address, CALL_TIMEOUT_S, self._note_server)
        # The server process behind the newest connection, and how often another one was found there. A server
        # that was restarted, or promoted in the place of another, may have lost what was acknowledged.
        self.server_run_id = ""
        self.server_changes = 0
        self._errors = (exceptions.RedisError, OSError, TimeoutError)
        self._refused = exceptions.ResponseError
        self._schema_lock = asyncio.Lock()
        self._schema_seen = False
        self._under_way: set[asyncio.Task[Any]] = set()

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
        return await self._in_time(self._send(command))

    async def call_many(self, commands: Sequence[Sequence[Argument]]) -> list[Reply]:
        """Send several commands in one round trip, in order, each for itself. Raises as `call`."""
        replies = await self._pipeline(commands)
        for reply in replies:
            if isinstance(reply, Exception):
                raise _unavailable() from reply
        return cast(list[Reply], replies)

    async def run(
        self,
        script: Script,
        redis_keys: Sequence[str],
        args: Sequence[Argument],
        timeout_s: float | None = None,
    ) -> Reply:
        """Run one script; those that are asked for in one turn of the loop share a round trip. Raises as `call`;
        `timeout_s` is the time for it, where that is another than a call's."""
        if timeout_s is None:
            timeout_s = CALL_TIMEOUT_S
        if not self._schema_seen:
            await self._in_time(self._see_schema())
        ask = self._wire.ask
        try:
            reply = await ask("EVALSHA", script.sha1, len(redis_keys), *redis_keys, *args, timeout_s=timeout_s)
            if isinstance(reply, Exception) and str(reply).startswith("NOSCRIPT"):
                # After a restart or a promotion; EVAL runs it and loads it.
                reply = await ask("EVAL", script.text, len(redis_keys), *redis_keys, *args, timeout_s=timeout_s)
        except WireError as error:
            raise _unavailable() from error
        if isinstance(reply, Exception):
            raise _unavailable() from reply
        return reply

    async def ask(self, *command: Argument, timeout_s: float | None = None) -> Reply:
        """Send one command on the way that scripts take, which costs a part of what `call` does. Raises as `run`."""
        if not self._schema_seen:
            await self._in_time(self._see_schema())
        try:
            reply = await self._wire.ask(*command, timeout_s=CALL_TIMEOUT_S if timeout_s is None else timeout_s)
        except WireError as error:
            raise _unavailable() from error
        if isinstance(reply, Exception):
            raise _unavailable() from reply
        return reply

    async def run_many(self, script: Script, calls: Sequence[tuple[Sequence[str], Sequence[Argument]]]) -> list[Reply]:
        """Run one script several times in one round trip. Its calls must not depend on each
        other's order: one that found no script is repeated after the rest. Raises as `call`, once all have ended."""
        running = (self.run(script, names, args) for names, args in calls)
        replies = await asyncio.gather(*running, return_exceptions=True)
        for reply in replies:
            if isinstance(reply, BaseException):
                raise reply
        return cast(list[Reply], replies)

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
        for call in self._under_way:
            call.cancel()
        if self._under_way:
            await asyncio.wait(set(self._under_way), timeout=CALL_TIMEOUT_S)
        await self._client.aclose(close_connection_pool=True)
        await self._wire.close()

    async def _see_server(self, connection: _Connection) -> None:
        """On every new connection, before anything is sent on it."""
        await connection.on_connect()
        await connection.send_command("INFO", "server")
        try:
            self._note_server(await connection.read_response())
        except self._refused:
            self._note_server(None)

    def _note_server(self, info: Reply) -> None:
        """None: this user may not ask it; then only a lost epoch shows that something was lost."""
        run_id = "" if info is None else _info(info, "run_id")
        if run_id != self.server_run_id:
            if self.server_run_id:
                self.server_changes += 1
            self.server_run_id = run_id

    async def _pipeline(self, commands: Sequence[Sequence[Argument]]) -> "list[Reply | Exception]":
        """The replies in order, an error in the place of a command that failed."""
        return await self._in_time(self._send_many(commands)) if commands else []

    async def _in_time(self, sending: Coroutine[None, None, Result]) -> Result:
        """Wait for a call, for 250 ms at most. It runs in a task of its own, which nobody cancels: redis-py,
        cancelled while it gives a connection back, loses it for good. Whoever gives a call up leaves it to
        the client's own time-outs."""
        call = asyncio.get_running_loop().create_task(sending)
        self._under_way.add(call)
        call.add_done_callback(self._end)
        done, _ = await asyncio.wait((call,), timeout=CALL_TIMEOUT_S)
        if not done:
            raise _unavailable()
        try:
            return call.result()
        except self._errors as error:
            raise _unavailable() from error

    def _end(self, call: "asyncio.Task[Any]") -> None:
        self._under_way.discard(call)
        if not call.cancelled():
            call.exception()  # seen, also where nobody waits for it any more

    async def _send(self, command: Sequence[Argument]) -> Reply:
        if not self._schema_seen:
            await self._see_schema()
        return await self._client.execute_command(*command)

    async def _send_many(self, commands: Sequence[Sequence[Argument]]) -> "list[Reply | Exception]":
        if not self._schema_seen:
            await self._see_schema()
        async with self._client.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            return await pipeline.execute(raise_on_error=False)

    async def _see_schema(self) -> None:
        """Once per process, before anything is read or written."""
        async with self._schema_lock:  # the first calls come together, and one look serves them all
            if not self._schema_seen:
                await self._compare_schema()
                self._schema_seen = True

    async def _compare_schema(self) -> None:
        run = self._client.execute_command
        found = await run("GET", SCHEMA_NAME)
        if found is None:
            await run("SET", SCHEMA_NAME, str(SCHEMA), "NX")
            found = await run("GET", SCHEMA_NAME)
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


def _connectable(url: str, on_connect: Callable[[_Connection], Awaitable[None]]) -> tuple[_Client, WireAddress]:
    from redis.asyncio import BlockingConnectionPool, Redis, SSLConnection
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=CONNECTIONS_MAX,
        timeout=CALL_TIMEOUT_S,  # to wait for a free connection
        socket_timeout=CALL_TIMEOUT_S,
        socket_connect_timeout=CONNECT_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),  # the stock client repeats a counted command up to ten times
        protocol=2,
        redis_connect_func=on_connect,
        driver_info=None,  # no CLIENT SETINFO: a round trip a connection, and unknown before Redis 7.2
    )
    client = Redis.from_pool(pool)
    client.response_callbacks.clear()  # replies stay as RESP2 carries them
    connection: Any = cast(
        Any, pool
    ).make_connection()  # connected to nothing; it has read the URL, its TLS options included
    address = WireAddress(
        host=connection.host,
        port=connection.port,
        database=int(connection.db),
        username=connection.username,
        password=connection.password,
        ssl_context=connection.ssl_context.get() if isinstance(connection, SSLConnection) else None,
    )
    return cast(_Client, client), address


def _unavailable() -> StateUnavailable:
    message = "The gateway's state store did not answer in time. Try again shortly."
    return StateUnavailable(message, retry_after_ms=RETRY_AFTER_MS)
