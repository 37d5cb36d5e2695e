import os
from dataclasses import replace

import pytest

from proxy.core.errors import ProviderKeyUnreadable
from proxy.core.unreadable import UnreadableReason
from proxy.keyring import aead, envelope
from proxy.keyring.aead import Purpose
from proxy.keyring.dek import Dek, canonical, canonical_context
from proxy.keyring.envelope import Place

DEK = Dek(bytes(range(32)))
PLACE = Place("acme", "openai", "zoe", "https://api.openai.com", "pk_1", 3)
SECRET = b"sk-0123456789abcdef"
SEALED = envelope.seal(DEK, "dek_1", "local:00", bytes(range(100, 132)), PLACE, SECRET)


def reason_of(data, dek=DEK, place=PLACE):
    with pytest.raises(ProviderKeyUnreadable) as refused:
        envelope.unseal(envelope.parse(data), dek, place)
    return refused.value.reason


def test_what_was_sealed_is_opened_in_its_place():
    assert envelope.unseal(envelope.parse(SEALED), DEK, PLACE) == SECRET


def test_no_part_of_the_secret_stands_in_the_envelope():
    assert not any(SECRET[i : i + 4] in SEALED for i in range(len(SECRET) - 3))


def test_every_flipped_bit_is_refused():
    for index in range(len(SEALED)):
        for bit in range(8):
            changed = bytearray(SEALED)
            changed[index] ^= 1 << bit
            reason_of(bytes(changed))


def test_every_truncation_and_every_addition_is_refused():
    for length in range(len(SEALED)):
        reason_of(SEALED[:length])
    reason_of(SEALED + b"\0")
    reason_of(SEALED + SEALED)


@pytest.mark.parametrize(
    ("index", "value", "reason"),
    [
        (0, ord("X"), UnreadableReason.FORMAT),
        (4, 0, UnreadableReason.FORMAT),
        (4, 2, UnreadableReason.FORMAT),
        (5, 0, UnreadableReason.ALGORITHM),  # a downgrade to nothing
        (5, 2, UnreadableReason.ALGORITHM),
        (6, 255, UnreadableReason.FORMAT),  # a length beyond the end
        (7, 0xFF, UnreadableReason.FORMAT),  # an id that is no ASCII
        (len(SEALED) - 1, SEALED[-1] ^ 1, UnreadableReason.CONTENT),
        (len(SEALED) - 20, SEALED[-20] ^ 1, UnreadableReason.CONTENT),
        (22, SEALED[22] ^ 1, UnreadableReason.COMMITMENT),  # the nonce's first byte
        (22 + 32, SEALED[22 + 32] ^ 1, UnreadableReason.COMMITMENT),
    ],
)
def test_the_reason_tells_apart(index, value, reason):
    changed = bytearray(SEALED)
    assert changed[index] != value
    changed[index] = value
    assert reason_of(bytes(changed)) is reason


@pytest.mark.parametrize(
    "change",
    [
        {"tenant_id": "acmf"},
        {"provider": "openai2"},
        {"user": None},
        {"user": "zo"},
        {"user": ""},
        {"origin": "http://api.openai.com"},
        {"origin": "https://api.openai.com:8443"},
        {"credential_id": "pk_2"},
        {"version": 2},
        {"version": 31},
        {"tenant_id": "acmeo", "provider": "penai"},  # a boundary that is shifted
        {"credential_id": "pk_13", "version": 0},
    ],
)
def test_in_another_place_it_does_not_open(change):
    assert reason_of(SEALED, place=replace(PLACE, **change)) is UnreadableReason.CONTENT


def test_under_another_data_key_it_does_not_open():
    assert reason_of(SEALED, dek=Dek(bytes(32))) is UnreadableReason.COMMITMENT


def test_a_ciphertext_that_opens_under_two_keys_is_refused_by_the_commitment():
    """GCM alone would take whatever the second key makes of it, if its tag fits; the commitment cannot fit both."""
    first, other = Dek(b"a" * 32), Dek(b"b" * 32)
    nonce = os.urandom(32)
    commitment, _ = aead.seal(first, Purpose.PROVIDER_KEY, nonce, SECRET, b"")
    _, ciphertext = aead.seal(other, Purpose.PROVIDER_KEY, nonce, SECRET, b"")
    with pytest.raises(aead.CommitmentMismatch):
        aead.unseal(other, Purpose.PROVIDER_KEY, nonce, commitment, ciphertext, b"")


def test_the_same_secret_is_never_sealed_alike():
    again = envelope.seal(DEK, "dek_1", "local:00", bytes(range(101, 133)), PLACE, SECRET)
    assert again[22:] != SEALED[22:]


def test_what_is_no_envelope_at_all_is_refused():
    for data in (b"", b"TWPK", b"{}", bytes(1_000), os.urandom(200), b"TWPK\x01\x01" + b"\xff" * 70_000):
        assert reason_of(data) is UnreadableReason.FORMAT


def test_a_refusal_shows_nothing():
    error = ProviderKeyUnreadable(UnreadableReason.CONTENT)
    other = ProviderKeyUnreadable(UnreadableReason.KEK_DISABLED)
    assert (str(error), repr(error), error.status) == (str(other), repr(other), other.status)
    assert "content" not in repr(error).replace("contents", "")


def test_lists_of_fields_have_the_same_bytes_only_if_they_are_the_same():
    lists = [(), (b"",), (b"", b""), (b"a", b"bc"), (b"ab", b"c"), (b"abc",), (b"a", b"b", b"c"), (b"1",)]
    assert len({canonical(*fields) for fields in lists}) == len(lists)


def test_a_context_is_its_pairs_and_not_their_text():
    contexts = [{"a": "bc"}, {"ab": "c"}, {"a": "b", "c": ""}, {"a": "b"}, {}, {"abc": ""}, {"": "abc"}]
    assert len({canonical_context(context) for context in contexts}) == len(contexts)
    assert canonical_context({"a": "1", "b": "2"}) == canonical_context({"b": "2", "a": "1"})
