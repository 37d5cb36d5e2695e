"""Moments, as they are typed, in the words of rows."""

from proxy.core.instants import exact_instant


def since_instant(moment: str | int | None, now_ms: int) -> str | None:
    """An instant as rows write it; a number is a time span before now, in milliseconds."""
    return exact_instant(max(0, now_ms - moment)) if isinstance(moment, int) else moment
