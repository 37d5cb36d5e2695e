"""What a reload can change, and what only a start can."""

from dataclasses import replace

from proxy.settings.consistency import lends_to_strangers
from proxy.settings.model import Settings


def kept_until_restart(settings: Settings, running: Settings) -> Settings:
    """A new configuration with what only a start can change: another state folder would mean another
    pepper, under which nobody's virtual key is known.

    Raises:
        ValueError: on the port as it is bound now, the gateway's own keys would be open to anyone.
    """
    now = running.server
    server = replace(
        settings.server, bind=now.bind, admin_bind=now.admin_bind, drain_s=now.drain_s, workers=now.workers
    )
    bounds = replace(
        settings.cache,
        memory_bytes_max=running.cache.memory_bytes_max,
        file_bytes_max=running.cache.file_bytes_max,
        entry_bytes_max=running.cache.entry_bytes_max,
    )
    kept = replace(
        settings, server=server, state=running.state, ledger=running.ledger, keyring=running.keyring, cache=bounds
    )
    if lends_to_strangers(kept.auth, now.bind):
        raise ValueError(
            f"auth.allow_keyless is true, and until the next start this gateway listens on {now.bind}: anyone who can "
            "reach it could spend its own keys. Restart it instead."
        )
    return kept
