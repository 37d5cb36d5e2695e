"""Where the state is: a command that is typed in another folder answers from no empty one, and makes none unseen."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from proxy.cli.terminal import CommandFailed, Terminal
from proxy.identity.pepper import PEPPER_FILE
from proxy.settings.model import Settings

READ_ONLY: Final = frozenset(
    {
        "keys list",
        "keys peppers",
        "provider-keys list",
        "tenants list",
        "deployments list",
        "models list",
        "cache stats",
        "keyring status",
        "usage",
        "audit list",
        "ledger verify",
    }
)
_HINT: Final = "A relative folder begins where a command was started"


@contextmanager
def watched_state(command: str, settings: Settings, terminal: Terminal) -> Iterator[None]:
    """Around a command: one that only reads makes nothing, and another says where it made a new state.

    Raises:
        CommandFailed: nothing is there to be read.
    """
    if command in READ_ONLY:
        for path in filter(None, (_file(settings), _pepper(settings) if command == "keys peppers" else None)):
            _require(path)
        yield
        return
    file = _file(settings)
    was_there = file is None or file.exists()
    try:
        yield
    finally:
        if file is not None and not was_there and file.exists():
            terminal.note(f"made {file}: a new, empty state. {_HINT}.")


def announced_state(settings: Settings) -> str | None:
    """What to say before a gateway makes a new state; None where there is one, or it is in Redis."""
    file = _file(settings)
    if file is None or file.exists():
        return None
    return f"there is no state at {file} yet: a new, empty one is made. {_HINT}."


def _require(path: Path) -> None:
    if not path.exists():
        message = (
            f"there is no state at {path}. {_HINT}: start it where the gateway was started, or write [state] folder in "
            "full. The first `tollway serve`, or `tollway keys issue`, makes it."
        )
        raise CommandFailed(message)


def _file(settings: Settings) -> Path | None:
    """The embedded store's; None where the state is in Redis, which nothing makes."""
    from proxy.adapters.sqlite import URL_PREFIX, sqlite_path  # imported here: help should answer at once

    state = settings.state
    return sqlite_path(state.url, state.folder).absolute() if state.url.startswith(URL_PREFIX) else None


def _pepper(settings: Settings) -> Path | None:
    return None if settings.auth.peppers else (settings.state.folder / PEPPER_FILE).absolute()
