import hashlib
import hmac
import re
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.consent import Consent
from proxy.core.errors import InvalidParameter
from proxy.core.limits import ScopeLimits
from proxy.core.secret import Secret
from proxy.identity.virtual_key import (
    VirtualKey,
    VirtualKeyState,
    decode,
    digest,
    encode,
    is_well_formed,
    issue,
    mint,
    mint_id,
    pepper_fingerprint,
)

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def base62_value(digits: str) -> int:
    value = 0
    for digit in digits:
        value = value * 62 + ALPHABET.index(digit)
    return value


@given(st.binary(min_size=32, max_size=32))
def test_a_token_holds_every_bit_and_the_crc_of_its_digits(random_bytes):
    token = mint(random_bytes).reveal()
    assert re.fullmatch(r"twk_[0-9A-Za-z]{49}", token)
    digits, checksum = token[4:47], token[47:]
    assert base62_value(digits) == int.from_bytes(random_bytes, "big")
    assert base62_value(checksum) == zlib.crc32(digits.encode())
    assert is_well_formed(token)


@pytest.mark.parametrize("random_bytes", [bytes(32), b"\xff" * 32])
def test_the_smallest_and_the_largest_token_are_well_formed(random_bytes):
    assert is_well_formed(mint(random_bytes).reveal())


@given(st.integers(0, 52), st.characters())
def test_a_changed_character_is_noticed(place, character):
    token = mint(bytes(range(32))).reveal()
    changed = token[:place] + character + token[place + 1 :]
    assert is_well_formed(changed) is (changed == token)


@pytest.mark.parametrize(
    "token",
    ["", "twk_", "sk-proj-" + "a" * 45, "twk_" + "a" * 49, "twk_" + "é" * 49, "twk_" + "²" * 49, "TWK_" + "0" * 49],
)
def test_what_was_never_issued_is_not_well_formed(token):
    assert not is_well_formed(token)


def test_a_token_with_more_around_it_is_not_well_formed():
    token = mint(bytes(range(32))).reveal()
    for changed in (token + "\n", " " + token, token + "0", token[:-1], token + token):
        assert not is_well_formed(changed)


def test_a_minted_token_cannot_be_shown_by_accident():
    token = mint(bytes(range(32)))
    assert isinstance(token, Secret)
    assert token.reveal() not in f"{token!r} {token}"


@pytest.mark.parametrize("length_bytes", [0, 16, 31, 33])
def test_fewer_or_more_random_bits_make_no_token(length_bytes):
    with pytest.raises(AssertionError):
        mint(b"x" * length_bytes)


def test_an_id_holds_every_bit():
    assert base62_value(mint_id(b"\xff" * 16).removeprefix("vk_")) == 2**128 - 1
    assert len(mint_id(bytes(16))) == len(mint_id(b"\xff" * 16)) == 25


@pytest.mark.parametrize(("pepper", "text"), [(b"p" * 32, "twk_abc"), (bytes(32), "x")])
def test_a_digest_is_hmac_sha_256(pepper, text):
    assert digest(text, pepper) == hmac.new(pepper, text.encode(), hashlib.sha256).hexdigest()


@pytest.mark.parametrize(
    ("expires_at_ms", "revoked_at_ms", "now_ms", "expected"),
    [
        (None, None, 10**15, VirtualKeyState.ACTIVE),
        (100, None, 99, VirtualKeyState.ACTIVE),
        (100, None, 100, VirtualKeyState.EXPIRED),
        (None, 50, 10, VirtualKeyState.REVOKED),  # whatever the clock says
        (100, 50, 200, VirtualKeyState.REVOKED),
    ],
)
def test_state(expires_at_ms, revoked_at_ms, now_ms, expected):
    record = VirtualKey("vk_1", "acme", 1, "abcd", expires_at_ms=expires_at_ms, revoked_at_ms=revoked_at_ms)
    assert record.state(now_ms) is expected


AMOUNTS = st.integers(0, 4 * 10**15)
INSTANTS = st.none() | st.integers(0, 2**53 - 1)
NAMES = st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=128)


@given(
    st.builds(
        VirtualKey,
        id=st.text("abc", max_size=5),
        tenant_id=st.just("acme"),
        created_at_ms=st.integers(0, 2**53 - 1),
        last_four=st.just("abcd"),
        user=NAMES,
        feature=NAMES,
        allowed_models=st.none() | st.frozensets(st.text("abc/.-", min_size=1), min_size=1),
        expires_at_ms=INSTANTS,
        revoked_at_ms=INSTANTS,
        fallback=st.none() | st.sampled_from(Consent),
        limits=st.none() | st.builds(ScopeLimits, *[st.none() | AMOUNTS] * 9, total_nusd=AMOUNTS),
    )
)
def test_a_record_survives_being_stored(record):
    assert decode(encode(record)) == record


def test_a_record_of_a_later_release_is_read():
    stored = b'{"id":"vk_1","tenant_id":"acme","created_at_ms":1,"last_four":"abcd","labels":{"a":"b"},'
    stored += b'"limits":{"per_day_nusd":5,"per_fortnight_nusd":9}}'
    assert decode(stored) == VirtualKey("vk_1", "acme", 1, "abcd", limits=ScopeLimits(per_day_nusd=5))


def test_a_consent_of_a_later_release_is_none():
    stored = b'{"id":"vk_1","tenant_id":"acme","created_at_ms":1,"last_four":"abcd","fallback":"anybody"}'
    assert decode(stored).fallback is Consent.NONE


def test_a_record_of_the_release_before_limits_is_read():
    stored = b'{"id":"vk_1","tenant_id":"acme","created_at_ms":1,"last_four":"abcd"}'
    assert decode(stored).limits is None


def test_a_key_with_a_rate_of_its_own_has_a_burst_of_its_own():
    assert issued(limits=ScopeLimits(requests_per_minute=6)).limits == ScopeLimits(requests_per_minute=6, burst=6)
    assert issued(limits=ScopeLimits(total_nusd=0)).limits == ScopeLimits(total_nusd=0)
    assert issued().limits is None


def issued(**changes) -> VirtualKey:
    values: dict[str, Any] = {
        "tenant_id": "acme",
        "token": mint(bytes(32)),
        "virtual_key_id": "vk_1",
        "now_ms": 1_000,
    } | changes
    return issue(**values)


def test_the_record_of_a_token_does_not_hold_it():
    token = mint(bytes(range(32)))
    record = issued(token=token, user="ann", feature="report", allowed_models=frozenset({"m"}), expires_at_ms=1_001)
    assert record == VirtualKey("vk_1", "acme", 1_000, token.reveal()[-4:], "ann", "report", frozenset({"m"}), 1_001)
    assert token.reveal().encode() not in encode(record)
    assert token.reveal()[:-4] not in repr(record)


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"tenant_id": "a b"}, "tenant"),
        ({"tenant_id": ""}, "tenant"),
        ({"user": ""}, "user"),
        ({"user": "x" * 129}, "user"),
        ({"feature": "a\nb"}, "feature"),
        ({"allowed_models": frozenset()}, "models"),
        ({"allowed_models": frozenset(map(str, range(1_001)))}, "models"),
        ({"expires_at_ms": 1_000}, "expires"),
    ],
)
def test_a_key_that_could_never_be_used_is_not_issued(changes, param):
    with pytest.raises(InvalidParameter) as refused:
        issued(**changes)
    assert refused.value.param == param


def test_a_record_never_changes():
    with pytest.raises(AttributeError):
        setattr(issued(), "tenant_id", "other")  # noqa: B010 (what a type checker would forbid)


def test_a_peppers_fingerprint_is_its_own_and_no_tokens_digest():
    assert re.fullmatch("[0-9a-f]{12}", pepper_fingerprint(b"p" * 32))
    assert pepper_fingerprint(b"p" * 32) != pepper_fingerprint(b"q" * 32)
    expected = hmac.new(b"p" * 32, b"tollway pepper fingerprint", hashlib.sha256).hexdigest()[:12]
    assert pepper_fingerprint(b"p" * 32) == expected  # what is stored is looked for by it: it never changes
