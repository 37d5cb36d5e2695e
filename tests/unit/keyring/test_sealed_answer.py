"""The sealed form of a kept answer, against the primitives themselves."""

import os

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from proxy.core.errors import ProviderKeyUnreadable
from proxy.keyring.dek import Dek
from proxy.keyring.sealed_answer import parse, seal, unseal

RAW, NONCE = bytes(range(32)), bytes(range(100, 132))


def test_byte_by_byte():
    sealed = seal(Dek(RAW), "dek_1", NONCE, "acme", b"aad", b"an answer")
    info = b"tollway/provider-keys/v1/answer"
    derived = HKDF(algorithm=SHA256(), length=64, salt=NONCE, info=info).derive(RAW)
    parts = (b"tollway sealed answer", b"\1", b"acme", b"dek_1", b"aad")
    bound = b"".join(len(part).to_bytes(4, "big") + part for part in (b"5", *parts))
    ciphertext = AESGCM(derived[32:]).encrypt(NONCE[:12], b"an answer", bound)
    assert sealed == b"\1\5dek_1" + NONCE + derived[:32] + ciphertext
    assert unseal(parse(sealed), Dek(RAW), "acme", b"aad") == b"an answer"


def test_another_data_key_does_not_open_it():
    sealed = parse(seal(Dek(RAW), "dek_1", NONCE, "acme", b"", b"x"))
    with pytest.raises(ProviderKeyUnreadable):
        unseal(sealed, Dek(os.urandom(32)), "acme", b"")


@pytest.mark.parametrize("data", [b"", b"\1", b"\2\5dek_1" + bytes(90), b"\1\xff" + bytes(90), b"\1\1\xff" + bytes(90)])
def test_what_is_none_is_refused(data):
    with pytest.raises(ProviderKeyUnreadable):
        parse(data)
