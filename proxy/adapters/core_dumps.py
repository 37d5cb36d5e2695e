"""Keeps this process's memory out of files: what was opened for a call must not lie on a disk after a crash."""

import ctypes
import resource
import sys
from typing import Final

_PR_SET_DUMPABLE: Final = 4  # prctl(2)


def forbid() -> bool:
    """No core dumps of this process from here on. False: the system did not take it.

    The limit keeps the kernel from writing a file. A program that dumps are piped to (systemd-coredump, apport) gets
    them all the same, and only a process that is not dumpable keeps its memory from it; that also closes
    `/proc/PID/mem` and `/proc/PID/environ` to other processes of the same user.
    """
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if sys.platform != "linux":
            return True
        # Without a libc that has it (never seen on Linux) this raises AttributeError.
        is_refused: int = ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    except (AttributeError, OSError, ValueError):
        return False
    return is_refused == 0
