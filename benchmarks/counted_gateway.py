"""The gateway, counting the steps of its interpreter: `python -m benchmarks.counted_gateway FOLDER serve --config …`.

SIGUSR1 begins to count at zero; SIGUSR2 ends it and writes `steps.json` into the folder.
"""

import json
import signal
import sys
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from proxy.__main__ import main


class StepCounter:
    """Counts by function, in the thread that begins it: that of the event loop."""

    def __init__(self) -> None:
        self._entered: Counter[CodeType] = Counter()  # a coroutine's each time that it goes on
        self._steps: Counter[CodeType] = Counter()

    def begin(self) -> None:
        """Begin at zero. What runs already is not counted until it is entered again."""
        self._entered.clear()
        self._steps.clear()
        sys.settrace(self._enter)

    def end(self, path: Path) -> None:
        """End, and write what was counted: file, first line, name, times entered, steps."""
        sys.settrace(None)
        rows = [
            (code.co_filename, code.co_firstlineno, code.co_qualname, self._entered[code], steps)
            for code, steps in self._steps.items()
        ]
        path.with_suffix(".part").write_text(json.dumps(rows), encoding="utf-8")
        path.with_suffix(".part").rename(path)

    def _enter(self, frame: FrameType, event: str, _argument: object) -> Any:
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        self._entered[frame.f_code] += 1
        return self._step

    def _step(self, frame: FrameType, event: str, _argument: object) -> Any:
        if event == "opcode":
            self._steps[frame.f_code] += 1
        return self._step


if __name__ == "__main__":
    counter = StepCounter()
    folder = Path(sys.argv.pop(1))
    signal.signal(signal.SIGUSR1, lambda *_: counter.begin())
    signal.signal(signal.SIGUSR2, lambda *_: counter.end(folder / "steps.json"))
    sys.exit(main())
