"""The official SDK, in front of a gateway or of a provider itself."""

import ssl
from typing import Any

from openai import AsyncOpenAI, DefaultAsyncHttpxClient, DefaultHttpxClient, OpenAI

from tests.gateway import CALLERS_TOKEN

# What the SDK would make itself, less what a test machine could change: its proxies stay out of
# the way of the loopback, and its certificate authorities are not read for plain HTTP.
_HTTP: dict[str, Any] = {"trust_env": False, "verify": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)}
_OPTIONS: dict[str, Any] = {"api_key": CALLERS_TOKEN, "max_retries": 0, "timeout": 20.0}


def async_sdk(base_url: str, **options: Any) -> AsyncOpenAI:
    """The asynchronous client, as a context manager. It retries nothing unless told to."""
    return AsyncOpenAI(base_url=base_url, http_client=DefaultAsyncHttpxClient(**_HTTP), **(_OPTIONS | options))


def sync_sdk(base_url: str, **options: Any) -> OpenAI:
    """The synchronous client, likewise."""
    return OpenAI(base_url=base_url, http_client=DefaultHttpxClient(**_HTTP), **(_OPTIONS | options))
