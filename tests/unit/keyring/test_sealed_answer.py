import os

import pytest

from proxy.core.errors import ProviderKeyUnreadable
from proxy.core.unreadable import UnreadableReason
from proxy.keyring import envelope
from proxy.keyring.dek import Dek
from proxy.keyring.envelope import Envelope, Place
from proxy.keyring.sealed_answer import parse, seal, unseal

DEK = Dek(bytes(range(32)))
NONCE = bytes(range(100, 132))
AAD, ANSWER = b"name\0head", b'{"choices":[]}'
SEALED = seal(DEK, "dek_1", NONCE, "acme", AAD, ANSWER)
PLACE = Place("acme", "openai", None, "https://api.openai.com", "pk_1", 1)


def reason_of(data, dek=DEK, tenant_id="acme", aad=AAD):
    with pytest.raises(ProviderKeyUnreadable) as refused:
        unseal(parse(data), dek, tenant_id, aad)
    return refused.value.reason


@pytest.mark.parametrize("answer", [ANSWER, b"", bytes(100_000)])
@pytest.mark.parametrize("aad", [AAD, b"", bytes(2_000)])
def test_what_was_sealed_is_opened_in_its_place(answer, aad):
    sealed = seal(DEK, "dek_1", NONCE, "acme", aad, answer)
    assert unseal(parse(sealed), DEK, "acme", aad) == answer
    assert len(sealed) == 1 + 1 + 5 + 32 + 32 + len(answer) + 16


def test_no_part_of_the_answer_stands_in_it():
    assert not any(ANSWER[i : i + 4] in SEALED for i in range(len(ANSWER) - 3))


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
        (0, 0, UnreadableReason.FORMAT),
        (0, 2, UnreadableReason.FORMAT),
        (1, 255, UnreadableReason.FORMAT),  # a length beyond the end
        (2, 0xFF, UnreadableReason.FORMAT),  # an id that is no ASCII
        (6, ord("2"), UnreadableReason.CONTENT),  # another data key's id, opened with this one all the same
        (7, SEALED[7] ^ 1, UnreadableReason.COMMITMENT),  # the nonce
        (7 + 32, SEALED[7 + 32] ^ 1, UnreadableReason.COMMITMENT),
        (7 + 64, SEALED[7 + 64] ^ 1, UnreadableReason.CONTENT),
        (len(SEALED) - 1, SEALED[-1] ^ 1, UnreadableReason.CONTENT),
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
        {"tenant_id": ""},
        {"aad": b""},
        {"aad": b"name\0heae"},
        {"aad": AAD + b"\0"},
        {"tenant_id": "acmen", "aad": AAD[1:]},  # a boundary that is shifted
    ],
)
def test_in_another_place_it_does_not_open(change):
    assert reason_of(SEALED, **change) is UnreadableReason.CONTENT


def test_under_another_data_key_it_does_not_open():
    assert reason_of(SEALED, dek=Dek(bytes(32))) is UnreadableReason.COMMITMENT


def test_an_answer_opens_as_no_provider_key():
    """Though the same data key sealed it: its sub-key is another one."""
    parts = parse(SEALED)
    for data in (SEALED, b"TWPK\x01\x01" + SEALED[1:]):
        with pytest.raises(ProviderKeyUnreadable) as refused:
            envelope.unseal(envelope.parse(data), DEK, PLACE)
        assert refused.value.reason is UnreadableReason.FORMAT
    forged = Envelope(parts.dek_id, "local:00", parts.nonce, parts.commitment, parts.ciphertext)
    with pytest.raises(ProviderKeyUnreadable) as refused:
        envelope.unseal(envelope.parse(forged.to_bytes()), DEK, PLACE)
    assert refused.value.reason is UnreadableReason.COMMITMENT


def test_a_provider_key_opens_as_no_answer():
    data = envelope.seal(DEK, "dek_1", "local:00", NONCE, PLACE, b"sk-0123456789abcdef")
    assert reason_of(data) is UnreadableReason.FORMAT
    parts = envelope.parse(data)
    forged = b"\x01\x05dek_1" + parts.nonce + parts.commitment + parts.ciphertext
    assert reason_of(forged) is UnreadableReason.COMMITMENT
    assert parts.commitment != parse(SEALED).commitment  # of the same data key and nonce


def test_the_same_answer_is_never_sealed_alike():
    again = seal(DEK, "dek_1", bytes(range(101, 133)), "acme", AAD, ANSWER)
    assert again[7 + 32 :] != SEALED[7 + 32 :]


def test_what_is_no_sealed_answer_at_all_is_refused():
    for data in (b"", b"\x01", b"TWPK", b"{}", bytes(1_000), b"\x02" + os.urandom(200), b"\x01" + b"\xff" * 300):
        assert reason_of(data) is UnreadableReason.FORMAT
