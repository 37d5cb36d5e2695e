"""What is wrong with a file of prices, and where."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PriceProblem:
    """One thing that cannot be. `path` leads to it: `openai.models.gpt-5.prices[0].…`."""

    path: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.path}: expected {self.expected}, found {self.found}"


class PriceError(ValueError):
    """Prices that are refused, with everything that is wrong with them."""

    def __init__(self, problems: tuple[PriceProblem, ...]) -> None:
        assert problems
        first, more = problems[0], len(problems) - 1
        super().__init__(f"{first}{f' (and {more} more)' if more else ''}")
        self.problems = problems
