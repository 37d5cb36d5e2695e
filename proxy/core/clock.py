"""The clock, handed to whoever needs the time, so that a test can hand in its own."""

import time


class Clock:
    """Wall time for what people read, monotonic time for what is measured."""

    __slots__ = ()

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch, UTC. May jump when the machine's clock is set."""
        return time.time_ns() // 1_000_000

    def monotonic_us(self) -> int:
        """Microseconds from an arbitrary origin. Never goes back."""
        return time.monotonic_ns() // 1_000
