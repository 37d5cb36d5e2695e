"""Counts what a call makes the interpreter do: its steps (bytecode instructions), by function.

    python -m benchmarks.steps                                   # passthrough, plain; fifteen seconds
    python -m benchmarks.steps --mode everything --store redis --stream --functions 60

A count, not a time: no neighbour on the machine changes it, so that a change of one in a hundred is seen. It says
nothing of what a step costs, nor of the work in C, of which `benchmarks.stages` has the time.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from benchmarks import contenders, setups
from benchmarks.contenders import REDIS, SQLITE, STORES, Contender, Tollway
from benchmarks.latency import MODEL, STREAM_MODEL, body
from benchmarks.load import LoadFailed, Round
from benchmarks.load_process import LoadProcess
from benchmarks.targets import StartFailed

CALLS: Final = 200
WARM_UP_CALLS: Final = 100
READYING_CALLS: Final = 5
_ROUND_S_MAX: Final = 30.0
_SETTLED_S: Final = 0.3  # what follows the last answer is a call's as well
_WRITTEN_S_MAX: Final = 10.0
_POLL_S: Final = 0.02
_ROOT: Final = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Function:
    """One function's part of a call."""

    name: str
    place: str
    entered: float  # times a call
    steps: float


@dataclass(frozen=True, slots=True)
class Counted:
    """A call's, the greatest part first."""

    functions: tuple[Function, ...]

    @property
    def steps(self) -> float:
        """In all."""
        return sum(each.steps for each in self.functions)

    @property
    def entered(self) -> float:
        """How often any function of Python's was entered."""
        return sum(each.entered for each in self.functions)


def count(tollway: Tollway, *, stream: bool) -> Counted:
    """Start a gateway that counts, call it, and read what it counted. Raises StartFailed, LoadFailed."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tollway-steps-")))
        field = stack.enter_context(
            contenders.field(
                folder, (None, None), direct=None, upstream_port=None, redis=tollway.store == REDIS, tls=False
            )
        )
        load = stack.enter_context(LoadProcess())
        program = ("-m", "benchmarks.counted_gateway", str(folder))
        gateway = stack.enter_context(tollway.started(field, program=program))
        assert gateway.pid is not None
        load.run(_round(gateway, WARM_UP_CALLS, stream=stream))
        # Twice: when it is entered first, CPython 3.12 and later only make a function ready to tell its steps.
        for _ in range(2):
            load.run(_round(gateway, READYING_CALLS, stream=stream))
            time.sleep(_SETTLED_S)
            os.kill(gateway.pid, signal.SIGUSR1)
        sample = load.run(_round(gateway, CALLS, stream=stream))
        time.sleep(_SETTLED_S)
        os.kill(gateway.pid, signal.SIGUSR2)
        if sample.failures or not sample.completed:
            raise LoadFailed(f"{sample.failures} calls failed: {sample.first_failure}")
        return _read(folder / "steps.json", sample.completed)


def _round(gateway: Contender, calls: int, *, stream: bool) -> Round:
    sent = body(STREAM_MODEL if stream else MODEL, stream=stream)
    return Round(gateway.base_url, sent, gateway.token, 1, _ROUND_S_MAX, warm_up_s=0.0, calls_max=calls)


def _read(path: Path, calls: int) -> Counted:
    until_s = time.monotonic() + _WRITTEN_S_MAX
    while not path.exists():
        if time.monotonic() > until_s:
            raise StartFailed("The gateway did not write down its steps.")
        time.sleep(_POLL_S)
    found = [
        Function(name, f"{_shown(file)}:{line}", entered / calls, steps / calls)
        for file, line, name, entered, steps in json.loads(path.read_text(encoding="utf-8"))
    ]
    return Counted(tuple(sorted(found, key=lambda each: -each.steps)))


def _shown(file: str) -> str:
    return file.removeprefix(f"{_ROOT}/")


def table(counted: Counted, functions: int) -> str:
    """The greatest ones, and the whole."""
    lines = ["  steps  times  function"]
    lines += [
        f"{each.steps:7.1f} {each.entered:6.2f}  {each.name}  {each.place}" for each in counted.functions[:functions]
    ]
    lines.append(f"{counted.steps:7.0f} {counted.entered:6.0f}  in all, for one call")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.steps", description="Counts the steps of the interpreter for one call, by function."
    )
    modes = (setups.PASSTHROUGH, setups.EVERYTHING, setups.MISSES)
    parser.add_argument("--mode", choices=modes, default=setups.PASSTHROUGH, help="default: %(default)s")
    parser.add_argument("--store", choices=STORES, default=SQLITE, help="default: %(default)s")
    parser.add_argument("--stream", action="store_true", help="a stream of 21 events")
    parser.add_argument(
        "--functions", type=int, default=30, metavar="N", help="how many to show (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out"), metavar="DIR", help="where to write")
    arguments = parser.parse_args(argv)
    try:
        counted = count(Tollway(arguments.mode, arguments.store), stream=arguments.stream)
    except (LoadFailed, StartFailed) as error:
        print(error, file=sys.stderr)
        return 1
    print(table(counted, arguments.functions))
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "steps.json"
    path.write_text(json.dumps(asdict(counted), indent=2) + "\n", encoding="utf-8")
    print(f"\nwritten: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
