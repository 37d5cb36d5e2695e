"""A stand-in for the waiting awake, which counts instead: what is waited for so, and what is not."""


class CountedPoll:
    """Takes the place of `BusyPoll`."""

    def __init__(self, *_: object) -> None:
        self.begun = 0
        self.is_on = False

    def begin(self) -> None:
        """It is waited for."""
        self.begun += 1
        self.is_on = True

    def end(self) -> None:
        """It is here."""
        self.is_on = False
