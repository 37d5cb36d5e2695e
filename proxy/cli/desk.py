"""Who types a command, and what they may change."""

import os
import pwd
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from proxy.administration.desk import Desk, open_desk
from proxy.administration.keyring_at_hand import KeyringAtHand
from proxy.cli.composition import Composition
from proxy.core.clock import Clock
from proxy.settings.model import Settings


@asynccontextmanager
async def open_command_desk(settings: Settings, composition: Composition, clock: Clock) -> AsyncIterator[Desk]:
    """The use cases beside a running gateway, for whoever runs this process."""
    async with composition.open_stores(settings) as stores:
        at_hand = KeyringAtHand(
            stores.keyring, make=lambda: composition.command_keyring(settings, stores.keyring, clock)
        )
        try:
            yield open_desk(
                settings,
                stores,
                lambda: composition.peppers_of(settings)[0],
                clock,
                f"cli:{system_user()}",
                keyring=at_hand,
            )
        finally:
            await at_hand.stop()


def system_user() -> str:
    """The name that the system has for the process's user, or its number. No variable can change it."""
    user_id = os.getuid()
    try:
        return pwd.getpwuid(user_id).pw_name
    except KeyError:  # in a container
        return str(user_id)
