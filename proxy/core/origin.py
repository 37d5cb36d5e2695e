"""Where a provider key may be sent: scheme, host and port, and nothing of a path."""

from typing import Final
from urllib.parse import urlsplit

_DEFAULT_PORTS: Final = {"https": 443, "http": 80}


def origin_of(base_url: str) -> str:
    """`https://api.openai.com` of `https://API.openai.com:443/v1`; a port that is not the scheme's own stays.

    Raises:
        ValueError: not an http or https URL with a host.
    """
    parts = urlsplit(base_url)
    default_port = _DEFAULT_PORTS.get(parts.scheme)
    if default_port is None or not parts.hostname:
        raise ValueError("an origin is of an http or https URL with a host")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    port = "" if parts.port in (None, default_port) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"
