"""`[keyring]`: what wraps the data keys of stored provider keys."""

import re
from collections.abc import Callable
from functools import partial
from typing import Final

from proxy.settings.model import KekKind, KekSettings, KeyringSettings
from proxy.settings.reader import Reader, Source
from proxy.settings.values import Mismatch, is_https_or_loopback, parse_base_url, parse_pepper

ROTATE_DAYS_MAX: Final = 3_650

_EXPECTED: Final = "aws-kms:ARN, env:NAME or file:PATH"
# A key, and no alias: whoever may move an alias could make every data key unreadable.
_ARN = re.compile(r"arn:aws[a-z-]*:kms:[a-z0-9-]{1,32}:[0-9]{12}:key/[A-Za-z0-9-]{1,128}")


def read_keyring(at: Reader, source: Source) -> KeyringSettings:
    """The keyring's table."""
    default = KeyringSettings()
    keyring = KeyringSettings(
        kek=at.written("kek", partial(parse_kek, source.resolve), default.kek),
        rotate_after_days=at.integer("rotate_after_days", default.rotate_after_days, 1, ROTATE_DAYS_MAX),
        kms_endpoint_url=at.text("kms_endpoint_url", parse_endpoint_url, None),
    )
    at.close()
    return keyring


def parse_kek(resolve: Callable[[str], str | None], text: str) -> KekSettings:
    """`aws-kms:arn:aws:kms:REGION:ACCOUNT:key/ID`, `env:NAME` or `file:PATH`. Raises Mismatch.

    A file is not read here: the gateway makes it at its first start.
    """
    kind, colon, place = text.partition(":")
    if kind == KekKind.AWS_KMS and _ARN.fullmatch(place) is not None:
        return KekSettings(KekKind.AWS_KMS, place)
    if kind == KekKind.AWS_KMS:
        expected = "aws-kms: and a key's ARN, such as arn:aws:kms:eu-west-1:111122223333:key/1234"
        suggestion = "An alias is not taken: it can be moved to another key." if ":alias/" in place else None
        raise Mismatch(expected, found=f"{text[:64]!r}", suggestion=suggestion)
    if kind == KekKind.ENV and colon:
        value = resolve(text)
        assert value is not None, "`env:` is set, or refused"
        return KekSettings(KekKind.ENV, place, parse_pepper(value))
    if kind == KekKind.FILE and place and "\0" not in place:
        return KekSettings(KekKind.FILE, place)
    raise Mismatch(_EXPECTED, found="a text that does not begin so (not shown)")


def parse_endpoint_url(text: str) -> str:
    """An https URL, or http to loopback. Raises Mismatch."""
    url = parse_base_url(text)
    if not is_https_or_loopback(url):
        raise Mismatch("an https URL (or http to loopback)", found="http to another machine")
    return url
