import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, resource
from proxy.adapters import core_dumps
GET_DUMPABLE = 3  # prctl(2)
ask = lambda: (ctypes.CDLL(None).prctl(GET_DUMPABLE, 0, 0, 0, 0), resource.getrlimit(resource.RLIMIT_CORE) == (0, 0))
resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
print(ask()[0], core_dumps.forbid(), *ask())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="prctl(2) is Linux's")
def test_a_process_that_forbade_core_dumps_has_none_piped_anywhere_either():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.split() == ["1", "True", "0", "True"]
