"""The keyring that a configuration names."""

from proxy.adapters.kms import KmsDoor
from proxy.adapters.redis import RedisDoor
from proxy.adapters.sqlite import SqliteDoor
from proxy.core.clock import Clock
from proxy.keyring.aws_kek import AwsKek
from proxy.keyring.embedded import EmbeddedKeyringStore
from proxy.keyring.kek import Kek
from proxy.keyring.keyring import Keyring
from proxy.keyring.local_kek import LocalKek, load_or_make_kek
from proxy.keyring.store import KeyringStore, RedisKeyringStore
from proxy.settings.model import KekKind, KekSettings, Settings
from proxy.telemetry.metrics import Metrics


def connect_keyring(settings: Settings, door: SqliteDoor | RedisDoor, clock: Clock, metrics: Metrics) -> Keyring | None:
    """The keyring; None where no KEK is configured. Connects to nothing yet. Blocks on the disk, where a KEK is a
    file: call it at start.

    Raises:
        OSError: a KEK's file cannot be made or read.
        ValueError: it holds something else than a KEK.
    """
    keks = [_kek(each, settings, metrics) for each in settings.keyring.kek]
    if not keks:
        return None
    return Keyring(keks, keyring_store(door), clock, metrics.provider_key_unreadable)


def keyring_store(door: SqliteDoor | RedisDoor) -> KeyringStore:
    """Where the keyring is kept: beside all other state."""
    return EmbeddedKeyringStore(door) if isinstance(door, SqliteDoor) else RedisKeyringStore(door)


def _kek(kek: KekSettings, settings: Settings, metrics: Metrics) -> Kek:
    if kek.kind is KekKind.AWS_KMS:
        return AwsKek(kek.place, KmsDoor(kek.place, settings.keyring.kms_endpoint_url, metrics.kms_called))
    if kek.kind is KekKind.FILE:
        return LocalKek(load_or_make_kek(settings.state.folder / kek.place))
    assert kek.secret is not None
    return LocalKek(kek.secret)
