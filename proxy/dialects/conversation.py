"""How a conversation begins: what its later calls have in common with its first.

Pure. Providers keep the beginning of a prompt for a while and read it at a discount, each server its own; calls that
begin alike should go to the same one. OpenAI lets the caller say so (`prompt_cache_key`).
"""

from collections.abc import Mapping
from typing import Any, Final

from proxy.core import jsonio

_BEGINNING: Final = 2  # the system's message, and the first of the user


def beginning(document: Mapping[str, Any] | None) -> bytes:
    """What tells conversations apart; empty where nothing does."""
    if document is None:
        return b""
    named = document.get("prompt_cache_key")
    if isinstance(named, str) and named:
        return named.encode(errors="replace")
    parts = [document.get("system"), document.get("instructions")]
    for name in ("messages", "input"):
        given = document.get(name)
        parts.append(given[:_BEGINNING] if isinstance(given, list) else given)
    if not any(parts):
        return b""
    try:
        return jsonio.encode(parts)
    except TypeError:  # nested deeper than can be written
        return b""
