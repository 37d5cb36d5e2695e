"""The clients of every provider, and their connections from one configuration to the next."""

import asyncio
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Final, TypeAlias

import httpx

from proxy.adapters.http.stock import StockTransport
from proxy.adapters.http.transport import Transport, verified_context
from proxy.dialects.dialect import DIALECTS
from proxy.pipeline.snapshot import ProviderAccess
from proxy.settings.model import ProviderSettings, Settings, TransportKind
from proxy.simulated.transport import SimulatedTransport
from proxy.upstream.client import UpstreamClient

_RETIRED_S: Final = 5.0

Transports: TypeAlias = Mapping[str, httpx.AsyncBaseTransport]


class Providers:
    """Makes clients, keeps those that did not change, and closes the others once nobody can be using them."""

    def __init__(self, given: Transports) -> None:
        """`given` are transports by provider's name, instead of the configured ones."""
        self._given = given
        self._retired: set[httpx.AsyncBaseTransport] = set()  # of providers that a reload changed
        self._closing: set[asyncio.Task[None]] = set()
        self._transports: dict[str, httpx.AsyncBaseTransport] = {}
        self._tls: dict[Path | None, ssl.SSLContext] = {}

    async def aclose(self) -> None:
        """Let go of every connection."""
        for transport in (*self._transports.values(), *self._retired):
            await transport.aclose()

    def prepare(self, settings: Settings, before: Mapping[str, ProviderAccess]) -> dict[str, ProviderAccess]:
        """Clients for every provider; one that did not change keeps its open connections.

        Everything new is made first: where one cannot be, nothing that is in force was touched.
        """
        accesses: dict[str, ProviderAccess] = {}
        transports: dict[str, httpx.AsyncBaseTransport] = {}
        for name, provider in settings.providers.items():
            known = before.get(name)
            if known is not None and known.settings == provider:
                accesses[name], transports[name] = known, self._transports[name]
                continue
            transport = self._given.get(name) or self._make_transport(provider)
            dialect = DIALECTS[provider.dialect]
            client = UpstreamClient(provider, dialect.path_prefix, transport)
            accesses[name], transports[name] = ProviderAccess(provider, client, dialect), transport
        old, self._transports = self._transports, transports
        for name, transport in old.items():
            if transports.get(name) is not transport:
                self._retire(transport, before[name])
        return accesses

    def _retire(self, transport: httpx.AsyncBaseTransport, access: ProviderAccess) -> None:
        """Let the exchanges of an old snapshot end on it: none may last longer than its total time."""
        if transport in self._given.values():
            return  # whoever handed it in closes it, and it may be in use again
        self._retired.add(transport)
        ending_s = access.settings.timeouts_s.total
        asyncio.get_running_loop().call_later(ending_s + _RETIRED_S, self._close_retired, transport)

    def _close_retired(self, transport: httpx.AsyncBaseTransport) -> None:
        self._retired.discard(transport)
        closing = asyncio.get_running_loop().create_task(transport.aclose())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    def _make_transport(self, provider: ProviderSettings) -> httpx.AsyncBaseTransport:
        if provider.transport is TransportKind.SIMULATED:
            return SimulatedTransport()
        if provider.transport is TransportKind.HTTPX:
            # A context of its own: httpx writes the protocols that it offers into it, and ours speaks but one.
            context = verified_context(provider.ca_file)
            proxy_url = None if provider.proxy_url is None else provider.proxy_url.reveal()
            return StockTransport(connections_max=provider.connections_max, ssl_context=context, proxy_url=proxy_url)
        # Loading the machine's certificate authorities takes longer than all the rest: once.
        if provider.ca_file not in self._tls:
            self._tls[provider.ca_file] = verified_context(provider.ca_file)
        return Transport(connections_max=provider.connections_max, ssl_context=self._tls[provider.ca_file])
