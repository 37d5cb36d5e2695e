"""Which Python `make` takes, of those that PATH has: stand-ins that answer what it asks."""

import shutil
import subprocess
from pathlib import Path

import pytest

MAKEFILE = Path(__file__).resolve().parent.parent / "Makefile"
TOOLS = ("sh", "make", "rm", "touch", "mkdir")
STAND_IN = """\
#!/bin/sh
case "$*" in
  *version_info*) exit {is_old} ;;
  *ensurepip*) exit {is_bare} ;;
  *CONFIG_ARGS*) exit {is_plain} ;;
  --version) echo 'Python 3' ;;
  '-m venv '*) mkdir -p "$3" ;;
esac
"""
PLAIN, BARE, OLD = "is_plain", "is_bare", "is_old"  # without profiles, without venv, before 3.11


@pytest.fixture
def take(tmp_path):
    """What `make` says where PATH has these: folder/name, and what an interpreter lacks."""
    shutil.copy(MAKEFILE, tmp_path)
    (tmp_path / "tools").mkdir()
    for tool in TOOLS:
        (tmp_path / "tools" / tool).symlink_to(str(shutil.which(tool)))

    def take(found: dict[str, str | None], **settings: str) -> str:
        for path, lack in found.items():
            file = tmp_path / path
            file.parent.mkdir(exist_ok=True)
            file.write_text(STAND_IN.format(**{each: int(each == lack) for each in (PLAIN, BARE, OLD)}))
            file.chmod(0o755)
        folders = [*dict.fromkeys(str((tmp_path / path).parent) for path in found), str(tmp_path / "tools")]
        command = ["make", ".venv/.interpreter", *(f"{name}={value}" for name, value in settings.items())]
        done = subprocess.run(
            command, cwd=tmp_path, env={"PATH": ":".join(folders)}, capture_output=True, text=True, check=False
        )
        assert (done.returncode == 0) == (tmp_path / ".venv" / ".interpreter").exists()
        return (done.stdout + done.stderr).replace(f"{tmp_path}/", "")

    return take


def test_the_fastest_version_is_taken(take):
    found = {"bin/python3.11": None, "bin/python3.14": None, "bin/python3.12": None}
    assert "with Python 3, bin/python3.14" in take(found)


def test_one_with_profiles_goes_before_a_faster_version_and_before_what_stands_first(take):
    found = {"home/python3.14": PLAIN, "home/python3.11": PLAIN, "bin/python3.11": None}
    assert "with Python 3, bin/python3.11" in take(found)


def test_one_without_profiles_is_taken_where_there_is_no_other(take):
    found = {"home/python3.13": OLD, "home/python3.11": PLAIN, "home/python3.12": PLAIN, "bin/python3.14": BARE}
    assert "with Python 3, home/python3.11" in take(found)


def test_the_one_that_was_named_is_not_second_guessed(take, tmp_path):
    found = {"home/python3.11": PLAIN, "bin/python3.14": None}
    assert "with Python 3, python3.11" in take(found, PYTHON="python3.11")
    shutil.rmtree(tmp_path / ".venv")
    assert "with Python 3, home/python3.11" in take(found, PYTHON=str(tmp_path / "home" / "python3.11"))


def test_a_folder_on_path_may_have_a_space_in_its_name(take):
    assert "with Python 3, my tools/python3.12" in take({"my tools/python3.12": None})


def test_where_there_is_none_it_says_what_to_do(take):
    assert "found none of: python3.14 python3.13 python3.11 python3.12 python3." in take({"bin/python3": OLD})
    assert "apt install python3-venv" in take({"bin/python3": BARE})
    assert "found none of: nonsense." in take({"bin/python3": None}, PYTHON="nonsense")
