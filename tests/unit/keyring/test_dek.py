import copy
import pickle

import pytest

from proxy.core.secret import Secret
from proxy.keyring import aead
from proxy.keyring.dek import Dek, StoredDek, WrappedDek
from proxy.keyring.record import OpenedProviderKey, ProviderKeyRecord, ProviderKeyState, decode, encode, slot_of

RAW = bytes(range(32))


def test_a_data_key_cannot_be_shown_or_pickled():
    dek = Dek(RAW)
    for shown in (repr(dek), str(dek), f"{dek}", f"{dek!r:>40}", repr([dek])):
        assert "\\x01" not in shown
        assert RAW.hex() not in shown
        assert "Dek(…)" in shown
    for leave in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="pickled"):
            leave(dek)
    assert not hasattr(dek, "__dict__")


@pytest.mark.parametrize("raw", [b"", bytes(16), bytes(31), bytes(33)])
def test_a_data_key_has_32_bytes(raw):
    with pytest.raises(ValueError, match="32"):
        Dek(raw)


def test_nothing_that_is_stored_or_opened_shows_what_it_holds():
    opened = OpenedProviderKey(Secret("sk-canary"), "https://a.example", "pk_1", 1)
    stored = StoredDek("acme", "dek_1", WrappedDek("kek", b"canary"), 1)
    record = ProviderKeyRecord(
        *("acme", "openai", None, "https://a.example", "pk_1", 1, ProviderKeyState.ACTIVE, "f", "last", 1, "dek_1"),
        envelope=b"canary",
    )
    assert "canary" not in f"{opened} {stored} {record} {opened!r} {stored!r} {record!r}"
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(opened)


def test_a_record_is_what_it_was_written_as():
    for user, envelope in ((None, b""), ("Zoë", bytes(range(256)))):
        record = ProviderKeyRecord(
            *("acme", "openai", user, "https://a.example", "pk_1", 2, ProviderKeyState.RETIRED, "f", "", 1, "dek_1", 7),
            envelope,
        )
        assert decode(encode(record)) == record


def test_slots_of_users_and_of_the_tenant_never_meet():
    slots = {slot_of("openai", user) for user in (None, "", "a", "b", "Zoë")} | {slot_of("openai2", None)}
    assert len(slots) == 6
    assert "Zoë" not in slot_of("openai", "Zoë")


def test_a_fingerprint_says_nothing_without_the_data_key():
    mine = aead.fingerprint(Dek(RAW), b"sk-1")
    assert mine == aead.fingerprint(Dek(RAW), b"sk-1")
    assert len({mine, aead.fingerprint(Dek(RAW), b"sk-2"), aead.fingerprint(Dek(bytes(32)), b"sk-1")}) == 3
    assert len(mine) == 12
