"""What stores of absorbed amounts are meant to do, in plain sums."""

import random
from collections import defaultdict

from proxy.admission.absorption import AbsorptionFigures, AbsorptionStore


class Model:
    """Holds by run and sums by day."""

    def __init__(self) -> None:
        self.held: defaultdict[str, dict[str, int]] = defaultdict(dict)
        self.spent: defaultdict[str, int] = defaultdict(int)

    def hold(self, run_id: str, day: str, nusd: int, cap_nusd: int) -> bool:
        others_nusd = sum(held for run, held in self.held[day].items() if run != run_id)
        is_more = nusd > self.held[day].get(run_id, 0)
        if is_more and self.spent[day] + others_nusd + nusd > cap_nusd:
            return False
        self.held[day][run_id] = nusd
        return True

    def settle(self, run_id: str, day: str, nusd: int) -> None:
        if self.held[day].pop(run_id, None) is not None:
            self.spent[day] += nusd

    def figures(self, day: str) -> AbsorptionFigures:
        return AbsorptionFigures(sum(self.held[day].values()), self.spent[day])


async def walk(store: AbsorptionStore, day: str, steps: int) -> None:
    """Always the same steps, most of them near the cap, some with a cap that was larger before, and amounts of nothing
    among them; the first deviation from the model is an AssertionError."""
    chance, model = random.Random(1), Model()
    for step in range(steps):
        run_id = f"run_{chance.randrange(4)}"
        if chance.random() < 0.7:
            nusd, cap_nusd = chance.choice((0, 0, 1, 10, 20, 30, 45)), chance.choice((50, 100, 100))
            held = await store.hold(run_id, day, nusd, cap_nusd)
            assert held is model.hold(run_id, day, nusd, cap_nusd), f"step {step}: {run_id} holds {nusd}: {held}"
        else:
            nusd = chance.randrange(3)
            await store.settle(run_id, day, nusd)
            model.settle(run_id, day, nusd)
        found = await store.figures(day)
        assert found == model.figures(day), f"step {step}: {found}"
