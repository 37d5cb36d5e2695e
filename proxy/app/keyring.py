"""The keyring that a configuration names."""

from typing import Protocol

from proxy.adapters.kms import KmsDoor
from proxy.adapters.redis import RedisDoor
from proxy.adapters.sqlite import SqliteDoor
from proxy.core.clock import Clock
from proxy.keyring import aead
from proxy.keyring.aws_kek import AwsKek
from proxy.keyring.embedded import EmbeddedKeyringStore
from proxy.keyring.kek import Kek
from proxy.keyring.keyring import Keyring
from proxy.keyring.local_kek import LocalKek, load_or_make_kek
from proxy.keyring.store import KeyringStore, RedisKeyringStore
from proxy.settings.model import KekKind, KekSettings, Settings


class KeyringObserver(Protocol):
    """Who hears of the keyring: the metrics, or a command, which has none."""

    def kms_called(self, call: str, seconds: float, /) -> None:
        """A call to the KMS took so long."""
        ...

    def provider_key_unreadable(self, reason: str, /) -> None:
        """A stored provider key could not be opened."""
        ...


class _Unobserved:
    """For a command: what it could not do it says itself."""

    def kms_called(self, _call: str, _seconds: float) -> None: ...
    def provider_key_unreadable(self, _reason: str) -> None: ...


def connect_keyring(
    settings: Settings, door: SqliteDoor | RedisDoor, clock: Clock, observer: KeyringObserver
) -> Keyring | None:
    """The keyring; None where no KEK is configured. Connects to nothing yet. Blocks on the disk, where a KEK is a
    file: call it at start.

    Raises:
        OSError: a KEK's file cannot be made or read.
        ValueError: it holds something else than a KEK.
    """
    return _keyring(settings, keyring_store(door), clock, observer)


def command_keyring(settings: Settings, store: KeyringStore, clock: Clock) -> Keyring | None:
    """The keyring of a command, beside a running gateway. As `connect_keyring`."""
    return _keyring(settings, store, clock, _Unobserved())


def keyring_store(door: SqliteDoor | RedisDoor) -> KeyringStore:
    """Where the keyring is kept: beside all other state."""
    return EmbeddedKeyringStore(door) if isinstance(door, SqliteDoor) else RedisKeyringStore(door)


def _keyring(settings: Settings, store: KeyringStore, clock: Clock, observer: KeyringObserver) -> Keyring | None:
    keks = [_kek(each, settings, observer) for each in settings.keyring.kek]
    if not keks:
        return None
    aead.load()
    return Keyring(keks, store, clock, observer.provider_key_unreadable)


def _kek(kek: KekSettings, settings: Settings, observer: KeyringObserver) -> Kek:
    if kek.kind is KekKind.AWS_KMS:
        return AwsKek(kek.place, KmsDoor(kek.place, settings.keyring.kms_endpoint_url, observer.kms_called))
    if kek.kind is KekKind.FILE:
        return LocalKek(load_or_make_kek(settings.state.folder / kek.place))
    assert kek.secret is not None
    return LocalKek(kek.secret)
