"""Instants, as commands show them."""

from datetime import UTC, datetime


def instant(at_ms: int) -> str:
    """RFC 3339, UTC, whole seconds."""
    return datetime.fromtimestamp(at_ms // 1_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
