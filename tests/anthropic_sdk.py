"""Anthropic's official SDK, in front of a gateway or of a provider itself."""

from typing import Any

from anthropic import AsyncAnthropic

_OPTIONS: dict[str, Any] = {"max_retries": 0, "timeout": 20.0}


def anthropic_sdk(base_url: str, **options: Any) -> AsyncAnthropic:
    """The asynchronous client, as a context manager. It retries nothing unless told to."""
    return AsyncAnthropic(base_url=base_url, **(_OPTIONS | {"api_key": "callers-token"} | options))
