"""Whether a provider's host can be connected to: TCP, and TLS where its URL says so."""

import asyncio
from urllib.parse import urlsplit

from proxy.settings.model import ProviderSettings

CLOSE_S = 1.0
_PORTS = {"https": 443, "http": 80}


def endpoint_of(provider: ProviderSettings) -> str:
    """The host and port behind a provider's URL."""
    host, port, _ = _parts(provider)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def reach(provider: ProviderSettings) -> None:
    """Connect as a call would, send nothing, and close.

    Raises:
        OSError: the name is unknown, nobody listens, or the certificate is not to be trusted.
        TimeoutError: not connected within the provider's own connect time-out.
    """
    # Imported here: it brings httpx, and help should answer at once.
    from proxy.adapters.http.transport import verified_context

    host, port, is_tls = _parts(provider)
    context = verified_context(provider.ca_file) if is_tls else None
    async with asyncio.timeout(provider.timeouts_s.connect):
        _, writer = await asyncio.open_connection(host, port, ssl=context)
    writer.close()
    try:
        async with asyncio.timeout(CLOSE_S):
            await writer.wait_closed()
    except OSError:
        return  # it was reached; how it hangs up does not matter


def _parts(provider: ProviderSettings) -> tuple[str, int, bool]:
    parts = urlsplit(provider.base_url)
    assert parts.hostname is not None
    return parts.hostname, parts.port or _PORTS[parts.scheme], parts.scheme == "https"
