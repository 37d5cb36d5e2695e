"""What a worker last told of its counts, in memory that outlives it.

A sum that fell while a worker is silent, or when it is replaced, would look to Prometheus like a restart of the
whole, and all that the others had counted like new. So the next worker in that place goes on from what the last one
left, and whoever sums up takes this for one that does not answer.
"""

from typing import Final

from proxy.adapters.shared_bytes import SharedBytes

BYTES_MAX: Final = 4 * 1_048_576


class Keepsake(SharedBytes):
    """One for each place, made before any worker is forked. That place's worker puts, and any takes."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(BYTES_MAX)
