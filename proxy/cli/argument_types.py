"""What is typed as an argument, read: ids, time spans, moments, lists."""

import argparse
import re
from collections.abc import Callable
from datetime import UTC, datetime

from proxy.core.tenant import is_tenant_id
from proxy.ledger.usage import DIMENSIONS
from proxy.settings.values import Mismatch, parse_region, parse_time_zone

DAYS_MAX = 36_500
ANY_REGION = "any"
_DURATION = re.compile(r"([1-9][0-9]{0,8})([mhdw])")
_UNIT_MS = {"m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}


def tenant_id(text: str) -> str:
    """A tenant's id."""
    if not is_tenant_id(text):
        raise argparse.ArgumentTypeError("a tenant's id is 1 to 64 letters, digits, _ and -")
    return text


def duration_ms(text: str) -> int:
    """`30m`, `12h`, `30d` or `4w`, in milliseconds; at most 100 years."""
    match = _DURATION.fullmatch(text)
    span_ms = int(match[1]) * _UNIT_MS[match[2]] if match else 0
    if not 0 < span_ms <= DAYS_MAX * _UNIT_MS["d"]:
        raise argparse.ArgumentTypeError(f"{text!r} is no time span: write 30m, 12h, 30d or 4w, at most 100 years")
    return span_ms


def whole_number(maximum: int) -> Callable[[str], int]:
    """The type of a whole number from 1 to a maximum."""

    def parse(text: str) -> int:
        number = int(text) if text.isascii() and text.isdigit() and len(text) <= len(str(maximum)) else 0
        if not 1 <= number <= maximum:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 to {maximum}")
        return number

    return parse


def model_name(text: str) -> str:
    """A model's name, as calls have it."""
    if not text:
        raise argparse.ArgumentTypeError("write a model's name")
    return text


def model_list(text: str) -> frozenset[str]:
    """Model names between commas."""
    models = frozenset(name.strip() for name in text.split(","))
    if "" in models:
        raise argparse.ArgumentTypeError("write model names with commas between them: gpt-5,gpt-5-mini")
    return models


def regions(text: str) -> frozenset[str] | str:
    """Regions between commas; or `any`."""
    if text == ANY_REGION:
        return text
    try:
        return frozenset(parse_region(name.strip()) for name in text.split(","))
    except Mismatch:
        raise argparse.ArgumentTypeError("write regions with commas between them: eu,us; or any") from None


def time_zone(text: str) -> str:
    """An IANA time zone that this machine knows."""
    try:
        return parse_time_zone(text)
    except Mismatch as mismatch:
        message = f"{text!r} is no {mismatch.expected.removeprefix('a ')}. {mismatch.suggestion or ''}"
        raise argparse.ArgumentTypeError(message.strip()) from None


def dimensions(text: str) -> tuple[str, ...]:
    """Names between commas, each once."""
    names = tuple(name.strip() for name in text.split(","))
    if unknown := [name for name in names if name not in DIMENSIONS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(DIMENSIONS)}")
    if len(set(names)) != len(names):
        raise argparse.ArgumentTypeError(f"{text!r} names one of them twice")
    return names


def moment(text: str) -> str | int:
    """A date (its beginning, UTC) or an instant, as rows write it; or a time span before now, in milliseconds."""
    if _DURATION.fullmatch(text):
        return duration_ms(text)
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        instant = None
    if instant is None or (instant.tzinfo is None and len(text) > len("2026-11-01")):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time: write 2026-11-01 (UTC), 2026-11-01T12:00Z, or a span before now such as 7d"
        )
    in_utc = instant.astimezone(UTC) if instant.tzinfo else instant
    return f"{in_utc:%Y-%m-%dT%H:%M:%S}.{in_utc.microsecond // 1_000:03d}Z"


def page_number(text: str) -> int:
    """A page's number."""
    if not re.fullmatch(r"[1-9][0-9]{0,15}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no page's number: the first one is 1")
    return int(text)
