"""What several processes share in memory: the last text that was put whole, whatever became of who put it."""

import subprocess
import sys
import textwrap

from proxy.adapters.shared_bytes import SharedBytes

KILLS = 20


def test_the_last_one_is_found():
    left = SharedBytes(64)
    assert left.take() is None
    for text in (b"first, and longer", b"second", b"", b"third"):
        assert left.put(text)
        assert left.take() == text


def test_too_much_leaves_what_was_there():
    left = SharedBytes(8)
    assert not left.put(b"too much of it")
    assert left.take() is None
    assert left.put(b"enough")
    assert not left.put(b"too much of it")
    assert left.take() == b"enough"
    assert left.put(b"12345678")
    assert left.take() == b"12345678"


def test_who_reads_meanwhile_gets_a_whole_one_and_one_that_is_killed_over_it_leaves_what_was_there():
    """In a process of its own, which has no other thread: it forks."""
    script = f"""
        import os, signal
        from proxy.adapters.shared_bytes import SharedBytes

        texts = [bytes([letter]) * 400_000 for letter in b"ab"]
        for _ in range({KILLS}):
            left = SharedBytes(1 << 20)
            ready, begun = os.pipe()
            process = os.fork()
            if process == 0:
                while True:
                    for text in texts:
                        left.put(text)
                        os.write(begun, b".") if left._numbers[0] == 2 else None
            os.read(ready, 1)
            assert all(left.take() in (*texts, None) for _ in range(10))
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            assert left.take() in texts
            left.put(b"by the next one")
            assert left.take() == b"by the next one"
            for end in (ready, begun):
                os.close(end)
    """
    typed = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(typed, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
