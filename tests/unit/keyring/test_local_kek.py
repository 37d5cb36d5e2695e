import base64
import logging
import os
import stat

import pytest

from proxy.core.errors import ProviderKeyUnreadable
from proxy.core.secret import Secret
from proxy.core.unreadable import UnreadableReason
from proxy.keyring.dek import WrappedDek, context_of
from proxy.keyring.local_kek import LocalKek, load_or_make_kek


def test_a_kek_is_made_once_with_a_loud_note_and_only_its_owner_can_read_it(tmp_path, caplog):
    path = tmp_path / "state" / "kek"
    made = load_or_make_kek(path)
    (note,) = caplog.records
    assert note.levelno == logging.WARNING
    assert str(path) in note.message
    assert "Back it up" in note.message
    assert made.reveal() not in caplog.text
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    caplog.clear()
    assert load_or_make_kek(path) == made
    assert caplog.records == []
    assert os.listdir(path.parent) == ["kek"]


@pytest.mark.parametrize("content", ["", "not base64 at all!", base64.b64encode(b"x" * 31).decode()])
def test_a_file_that_holds_something_else_is_refused_and_left_alone(tmp_path, content):
    path = tmp_path / "kek"
    path.write_text(content)
    with pytest.raises(ValueError, match="Restore it") as refused:
        load_or_make_kek(path)
    assert str(path) in str(refused.value)
    assert path.read_text() == content


def test_a_kek_is_named_by_what_it_is_and_not_by_where_it_lies():
    secret = Secret(base64.b64encode(bytes(range(32))).decode())
    assert LocalKek(secret).kek_id == LocalKek(secret).kek_id
    other = Secret(base64.b64encode(bytes(32)).decode())
    assert LocalKek(other).kek_id != LocalKek(secret).kek_id
    assert secret.reveal() not in repr(LocalKek(secret)) + LocalKek(secret).kek_id


@pytest.mark.parametrize("text", ["", "short", base64.b64encode(b"x" * 33).decode()])
def test_another_text_is_no_kek(text):
    with pytest.raises(ValueError, match="32 bytes"):
        LocalKek(Secret(text))


@pytest.mark.parametrize("data", [b"", b"TWLK\x01", b"TWLK\x02" + bytes(60), b"TWPK\x01" + bytes(60), bytes(65)])
async def test_what_is_no_wrapped_data_key_is_refused(data):
    kek = LocalKek(Secret(base64.b64encode(bytes(32)).decode()))
    with pytest.raises(ProviderKeyUnreadable) as refused:
        await kek.unwrap(WrappedDek(kek.kek_id, data), context_of("acme"))
    assert refused.value.reason is UnreadableReason.DEK_REFUSED
