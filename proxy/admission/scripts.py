"""The scripts that decide in Redis, each behind what it shares with others."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

from proxy.adapters.redis import Script


@dataclass(frozen=True, slots=True)
class Scripts:
    """Each as a server is given it."""

    admit: Script
    settle: Script
    release: Script
    extend: Script
    grow: Script
    sweep: Script
    hit: Script
    epoch: Script
    announce: Script
    probe: Script

    @classmethod
    def load(cls) -> Self:
        """Blocks on the disk for a moment: call it at start."""

        def joined(*names: str) -> Script:
            return Script("".join((Path(__file__).parent / name).read_text() for name in ("common.lua", *names)))

        behind = partial(joined, "reservation.lua")
        return cls(
            admit=behind("admit.lua"),
            settle=behind("settle.lua"),
            release=behind("release.lua"),
            extend=behind("extend.lua"),
            grow=behind("grow.lua"),
            sweep=behind("sweep.lua"),
            hit=joined("hit.lua"),
            epoch=Script.beside(__file__, "epoch.lua"),
            announce=Script.beside(__file__, "announce.lua"),
            probe=Script.beside(__file__, "probe.lua"),
        )
