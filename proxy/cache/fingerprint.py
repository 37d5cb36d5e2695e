"""What tells one call from another, and the name that its answer is kept under.

Pure. Whose an answer is stands outside: entries belong to a tenant, whose secret seeds the hash, so that nobody who
does not have it can say which calls share a name (xxh3 is fast, and no defence by itself). The check is: a keyed
BLAKE2b of the same bytes, kept in the entry and compared before it is given to anybody. Two calls with the same
name and another check are two calls.

The body counts byte for byte, less the value of `stream`: the order of a schema's properties shapes the answer.
"""

import hashlib
from collections.abc import Iterable
from operator import itemgetter
from typing import Any, Final

from xxhash import xxh3_128_hexdigest

from proxy.cache.entry import CHECK_BYTES
from proxy.dialects.splice import edit_member

SECRET_BYTES: Final = 32

# What a client sends along that shapes no answer: who it is, how it traces, which try this is.
_NOISE: Final = frozenset(
    {
        b"baggage",
        b"cache-control",
        b"date",
        b"idempotency-key",
        b"pragma",
        b"priority",
        b"sentry-trace",
        b"traceparent",
        b"tracestate",
        b"user-agent",
        b"x-amzn-trace-id",
        b"x-client-request-id",
        b"x-cloud-trace-context",
        b"x-correlation-id",
        b"x-request-id",
    }
)
_NOISY: Final = (b"x-stainless-", b"x-b3-", b"x-datadog-", b"sec-")


def shaping_headers(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Of the headers that reach a provider, those that may shape its answer. One that nobody here knows may. In which
    order names come tells nothing; that of one name's lines does."""
    kept = sorted(
        (pair for pair in headers if pair[0] not in _NOISE and not pair[0].startswith(_NOISY)), key=itemgetter(0)
    )
    return canonical(part for pair in kept for part in pair)


def without_stream(text: bytes, document: Any) -> bytes:
    """A body's text without the value of `stream`. `document` is the text, parsed."""
    return edit_member(text, "stream", lambda _: b"") if "stream" in document else text


def material(outside: bytes, text: bytes) -> bytes:
    """All that tells a call from others of its tenant. `outside` the body: `canonical` of a fixed number of parts."""
    return outside + text


def name_of(material: bytes, secret: bytes) -> str:
    """The name of an entry: 32 hex digits of xxh3-128, seeded with 64 bits of the tenant's secret."""
    return xxh3_128_hexdigest(material, seed=int.from_bytes(secret[:8], "big"))


def check_of(material: bytes, secret: bytes) -> bytes:
    """What the entry of such a call holds: 32 bytes of BLAKE2b (RFC 7693), keyed with the tenant's secret."""
    return hashlib.blake2b(material, digest_size=CHECK_BYTES, key=secret).digest()


def canonical(parts: Iterable[bytes]) -> bytes:
    """Parts with their lengths before them, so that no two lists of parts have the same bytes."""
    listed = tuple(parts)
    return b"".join(len(part).to_bytes(4, "big") + part for part in (b"%d" % len(listed), *listed))
