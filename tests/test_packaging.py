"""What is installed is what is written: the dependencies, their locks, and the wheel's content."""

import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LOCKS = (
    *("requirements.lock", "requirements-dev.lock", "requirements-build.lock"),
    *("requirements-anthropic-1.lock", "requirements-redis-6.lock", "requirements-aws.lock"),
)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pins(lock: str) -> dict[str, str]:
    return dict(re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", (ROOT / lock).read_text(), re.MULTILINE))


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=!~;\[ ]", each)[0].lower() for each in requirements}


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_place_and_hashes_everything(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert "://" not in text
    assert not re.search(r"(?m)^\s*(-i|-f|-e|--index|--extra-index|--find-links|--trusted|/|\./)", text)
    for entry in re.split(r"(?m)^(?=[A-Za-z0-9])", text)[1:]:
        assert "--hash=sha256:" in entry, entry.splitlines()[0]


def test_the_locks_agree() -> None:
    development, build = pins("requirements-dev.lock"), pins("requirements-build.lock")
    assert pins("requirements.lock").items() <= pins("requirements-aws.lock").items() <= development.items()
    assert {name: build[name] for name in build.keys() & development.keys()}.items() <= development.items()


def test_the_locks_hold_what_is_declared() -> None:
    missing = "is not locked: run `make lock`"
    assert names(PROJECT["dependencies"]) <= pins("requirements.lock").keys(), missing
    assert names(PROJECT["optional-dependencies"]["dev"]) <= pins("requirements-dev.lock").keys(), missing
    extras = names([*PROJECT["optional-dependencies"]["kms"], *PROJECT["optional-dependencies"]["s3"]])
    assert extras <= pins("requirements-aws.lock").keys(), missing
    assert "hatchling" in pins("requirements-build.lock"), missing


def test_every_dependency_has_its_reason() -> None:
    declared = re.search(r"(?ms)^dependencies = \[(.*?)^\]", (ROOT / "pyproject.toml").read_text())
    assert declared is not None
    lines = declared[1].strip().splitlines()
    explained = {line for before, line in zip(["", *lines], lines, strict=False) if "#" in line or "#" in before}
    assert [line.strip() for line in lines if line not in explained] == []


@pytest.mark.skipif(find_spec("hatchling") is None, reason="the build backend is not installed; `make test` does")
def test_the_wheel_holds_the_whole_program(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=50)
    (wheel,) = tmp_path.glob("tollway-*-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
        (entry_points,) = (archive.read(name).decode() for name in held if name.endswith("entry_points.txt"))
    package = {
        file.relative_to(ROOT).as_posix()
        for file in (ROOT / "proxy").rglob("*")
        if file.suffix in (".py", ".lua") or file.name == "py.typed"
    }
    settings = {
        "proxy/" + file.relative_to(ROOT).as_posix()
        for file in (ROOT / "config").rglob("*")
        if file.suffix in (".toml", ".json")
    }
    assert settings, "config/ was not found"
    assert package | settings <= held
    assert not {name for name in held if name.startswith(("tests/", "benchmarks/", "docs/"))}
    assert "tollway = proxy.__main__:main" in entry_points
