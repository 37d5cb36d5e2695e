"""What tests of the keyring share: a clock that is moved by hand, a local KEK, a keyring, a provider key to store."""

import base64
import os
from collections.abc import Sequence

from proxy.adapters.kms import KmsDoor
from proxy.core.clock import Clock
from proxy.core.secret import Secret
from proxy.keyring.aws_kek import AwsKek
from proxy.keyring.kek import Kek
from proxy.keyring.keyring import Keyring
from proxy.keyring.local_kek import LocalKek
from proxy.keyring.store import KeyringStore

ORIGIN = "https://api.openai.com"
SECRET = Secret("sk-proj-0123456789abcdefghij")
OTHER_SECRET = Secret("sk-proj-jihgfedcba9876543210")


class HandClock(Clock):
    """Stands still until it is moved."""

    __slots__ = ("us",)

    def __init__(self) -> None:
        self.us = 1_000_000_000

    def now_ms(self) -> int:
        return self.us // 1_000

    def monotonic_us(self) -> int:
        return self.us


def local_kek() -> LocalKek:
    """One of its own."""
    return LocalKek(Secret(base64.b64encode(os.urandom(32)).decode()))


def aws_kek(arn: str, url: str) -> AwsKek:
    """One in the KMS at this address."""
    return AwsKek(arn, KmsDoor(arn, url, lambda _name, _seconds: None))


def ignore(_: object) -> None:
    """For progress that nobody watches."""


class Ring:
    """A keyring, its clock, and the reasons that it told its operator."""

    def __init__(self, store: KeyringStore, keks: Sequence[Kek]) -> None:
        self.clock = HandClock()
        self.reasons: list[str] = []
        self.store = store
        self.keks = keks
        self.keyring = Keyring(keks, store, self.clock, self.reasons.append)

    async def put(self, tenant_id: str = "acme", user: str | None = None, secret: Secret = SECRET) -> None:
        await self.keyring.put(tenant_id, "openai", user, ORIGIN, secret, self.clock.now_ms())

    async def open(self, tenant_id: str = "acme", user: str | None = None) -> str | None:
        """The text of what is opened."""
        opened = await self.keyring.open(tenant_id, "openai", user)
        return None if opened is None else opened.secret.reveal()
