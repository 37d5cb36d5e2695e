"""The keyring that a configuration names."""

import base64
import io

import pytest

from proxy.adapters.sqlite import SqliteDoor
from proxy.app import create_app
from proxy.app.keyring import connect_keyring
from proxy.core.clock import Clock
from proxy.core.secret import Secret
from proxy.keyring.opened_cache import MISS
from proxy.settings.model import KekKind, KekSettings, KeyringSettings, Settings, StateSettings
from proxy.telemetry.metrics import Metrics
from tests.keyrings import ORIGIN, SECRET

KEK = Secret(base64.b64encode(bytes(range(32))).decode())


def settings(tmp_path, *keks: KekSettings) -> Settings:
    return Settings(state=StateSettings(folder=tmp_path), keyring=KeyringSettings(keks))


async def test_what_one_gateway_stores_another_one_with_the_same_kek_opens(tmp_path):
    by_file = settings(tmp_path, KekSettings(KekKind.FILE, "kek"))
    async with SqliteDoor(tmp_path / "tollway.db") as door:
        for turn in range(2):
            keyring = connect_keyring(by_file, door, Clock(), Metrics())
            assert keyring is not None
            if turn == 0:
                await keyring.put("acme", "openai", None, ORIGIN, SECRET, 1)
            opened = await keyring.open("acme", "openai", None)
            assert opened is not None
            assert opened.secret == SECRET
            await keyring.stop()
    assert (tmp_path / "kek").exists()


async def test_a_second_kek_opens_what_it_wrapped_and_wraps_nothing_more(tmp_path):
    old, new = KekSettings(KekKind.ENV, "A", KEK), KekSettings(KekKind.FILE, "kek")
    async with SqliteDoor(tmp_path / "tollway.db") as door:
        before = connect_keyring(settings(tmp_path, old), door, Clock(), Metrics())
        after = connect_keyring(settings(tmp_path, new, old), door, Clock(), Metrics())
        assert before is not None
        assert after is not None
        await before.put("acme", "openai", None, ORIGIN, SECRET, 1)
        assert await after.open("acme", "openai", None) is not None
        assert (await after.rotate_kek(lambda _: None)).changed == 1
        await before.stop()
        await after.stop()


async def test_without_a_kek_there_is_no_keyring(tmp_path):
    async with SqliteDoor(tmp_path / "tollway.db") as door:
        assert connect_keyring(settings(tmp_path), door, Clock(), Metrics()) is None


async def test_a_kek_in_a_kms_is_not_asked_before_it_is_needed(tmp_path):
    arn = "arn:aws:kms:eu-west-1:111122223333:key/1"
    async with SqliteDoor(tmp_path / "tollway.db") as door:
        keyring = connect_keyring(settings(tmp_path, KekSettings(KekKind.AWS_KMS, arn)), door, Clock(), Metrics())
        assert keyring is not None
        assert await keyring.open("acme", "openai", None) is None
        await keyring.stop()


async def test_a_gateway_starts_and_stops_with_its_keyring(tmp_path):
    app = create_app(settings(tmp_path, KekSettings(KekKind.FILE, "kek")), access_log_sink=io.BytesIO())
    await app.startup()
    assert app.keyring is not None
    await app.keyring.put("acme", "openai", None, ORIGIN, SECRET, 1)
    assert await app.keyring.open("acme", "openai", None) is not None
    await app.shutdown()
    assert app.keyring.cached("acme", "openai", None) is MISS  # nothing in the clear is left


async def test_what_cannot_be_opened_is_counted_by_its_reason(tmp_path):
    metrics = Metrics()
    async with SqliteDoor(tmp_path / "tollway.db") as door:
        first = connect_keyring(settings(tmp_path, KekSettings(KekKind.FILE, "one")), door, Clock(), metrics)
        other = connect_keyring(settings(tmp_path, KekSettings(KekKind.FILE, "two")), door, Clock(), metrics)
        assert first is not None
        assert other is not None
        await first.put("acme", "openai", None, ORIGIN, SECRET, 1)
        with pytest.raises(Exception, match="cannot be opened"):
            await other.open("acme", "openai", None)
        await first.stop()
        await other.stop()
    assert b'tollway_provider_keys_unreadable_total{reason="kek_unknown"} 1.0' in metrics.render()[0]
