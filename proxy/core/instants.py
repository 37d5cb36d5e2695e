"""Instants, as people and rows read them."""

from datetime import UTC, datetime


def instant(at_ms: int) -> str:
    """RFC 3339, UTC, whole seconds: for people."""
    return datetime.fromtimestamp(at_ms // 1_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def exact_instant(at_ms: int) -> str:
    """RFC 3339, UTC, milliseconds: as rows have it."""
    return f"{datetime.fromtimestamp(at_ms // 1_000, UTC):%Y-%m-%dT%H:%M:%S}.{at_ms % 1_000:03d}Z"
