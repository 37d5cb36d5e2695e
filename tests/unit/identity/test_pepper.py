import base64
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.core.secret import Secret
from proxy.identity.pepper import load_or_make_pepper, pepper_bytes


def test_a_pepper_is_made_once_and_only_its_owner_can_read_it(tmp_path):
    folder = tmp_path / "new" / "state"
    made = load_or_make_pepper(folder)
    assert len(pepper_bytes(made)) == 32
    assert load_or_make_pepper(folder) == made
    assert stat.S_IMODE((folder / "pepper").stat().st_mode) == 0o600
    assert os.listdir(folder) == ["pepper"]


def test_two_folders_have_two_peppers(tmp_path):
    assert load_or_make_pepper(tmp_path / "a") != load_or_make_pepper(tmp_path / "b")


def test_processes_that_start_at_once_have_the_same_pepper(tmp_path):
    program = (
        "import sys, pathlib; from proxy.identity.pepper import load_or_make_pepper;"
        "sys.stdin.read(); print(load_or_make_pepper(pathlib.Path(sys.argv[1])).reveal())"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "state")]
    starting = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    for process in starting:  # all are imported and waiting before the first goes on
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
    peppers = {process.communicate(timeout=30)[0].strip() for process in starting}
    assert peppers == {load_or_make_pepper(tmp_path / "state").reveal()}
    assert os.listdir(tmp_path / "state") == ["pepper"]


def test_who_comes_second_takes_the_pepper_of_the_first(tmp_path, monkeypatch):
    first = load_or_make_pepper(tmp_path)
    monkeypatch.setattr(Path, "exists", lambda _path: False)  # it looked before the first one was done
    assert load_or_make_pepper(tmp_path) == first
    assert os.listdir(tmp_path) == ["pepper"]


@pytest.mark.parametrize("content", ["", "short", "not base64 at all!", base64.b64encode(b"x" * 31).decode(), "é"])
def test_a_file_that_holds_something_else_is_refused_and_left_alone(tmp_path, content):
    (tmp_path / "pepper").write_text(content)
    with pytest.raises(ValueError, match="Restore it") as refused:
        load_or_make_pepper(tmp_path)
    assert str(tmp_path / "pepper") in str(refused.value)
    assert (tmp_path / "pepper").read_text() == content


def test_pepper_bytes():
    assert pepper_bytes(Secret(base64.b64encode(b"x" * 32).decode())) == b"x" * 32
    secret_text = base64.b64encode(b"x" * 33).decode()
    with pytest.raises(ValueError, match="32 bytes") as refused:
        pepper_bytes(Secret(secret_text))
    assert secret_text not in str(refused.value)
