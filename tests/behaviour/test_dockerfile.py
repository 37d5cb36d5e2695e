"""The image: no root, no build tools, no shell between the signal and the gateway.

No Docker is needed. The Dockerfile is read as text here; `make image-check` also does its
steps in a clean environment in a temporary folder, which needs the package index.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
Step = tuple[str, str]  # an instruction and what follows it


def stages() -> list[list[Step]]:
    """The Dockerfile's instructions, by stage; each stage begins with its FROM."""
    text = (ROOT / "Dockerfile").read_text()
    text = re.sub(r"(?m)^#.*\n", "", text).replace("\\\n", " ")
    found: list[list[Step]] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        instruction, _, rest = line.partition(" ")
        if instruction == "FROM":
            found.append([])
        if found:
            found[-1].append((instruction, rest.strip()))
    return found


def rests(stage: list[Step], instruction: str) -> list[str]:
    return [rest for each, rest in stage if each == instruction]


def let_through(path: str) -> bool:
    """Whether .dockerignore lets a top-level name into the build; its last matching line decides."""
    through = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line and not line.startswith("#") and fnmatch(path, line.lstrip("!")):
            through = line.startswith("!")
    return through


def test_the_final_stage_has_no_root_and_no_build_tools() -> None:
    final = stages()[-1]
    assert rests(final, "FROM")[0].endswith("-slim")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", rests(final, "USER")[-1])
    assert not [rest for rest in rests(final, "RUN") if re.search(r"pip|apt|gcc|curl", rest)]
    # What runs after USER runs without root; nothing is copied or run after it.
    assert {each for each, _ in final[final.index(("USER", rests(final, "USER")[-1])) + 1 :]} <= {
        *("WORKDIR", "VOLUME", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD"),
    }


def test_signals_reach_the_gateway() -> None:
    final = stages()[-1]
    assert rests(final, "STOPSIGNAL") == ["SIGTERM"]
    assert json.loads(rests(final, "ENTRYPOINT")[0]) == ["tollway"]  # the exec form: no shell as process 1
    assert json.loads(rests(final, "CMD")[0]) == ["serve"]


def test_the_only_place_that_is_written_to_is_a_volume() -> None:
    final = stages()[-1]
    assert json.loads(rests(final, "VOLUME")[0]) == rests(final, "WORKDIR") == ["/var/lib/tollway"]


def test_the_health_check_runs() -> None:
    """Its command is Python that compiles, asks the admin port, and fails where nobody listens."""
    options, _, command = rests(stages()[-1], "HEALTHCHECK")[0].partition("CMD ")
    assert "--timeout=" in options
    program, flag, code = json.loads(command)
    assert (program, flag) == ("python", "-c")
    assert "http://127.0.0.1:8081/livez" in code
    unused = code.replace(":8081/", ":1/")
    assert subprocess.run([sys.executable, "-c", unused], capture_output=True, timeout=30).returncode != 0
    compile(code, "HEALTHCHECK", "exec")


def test_everything_copied_is_there_and_let_through() -> None:
    for stage in stages():
        for rest in rests(stage, "COPY"):
            if not rest.startswith("--from="):
                for source in rest.split()[:-1]:
                    assert (ROOT / source).exists(), source
                    assert let_through(source), f"{source} is kept out by .dockerignore"


def test_nothing_else_is_let_through() -> None:
    for private in (".git", ".venv", ".tollway", ".env", "tests", "requirements-dev.lock"):
        assert not let_through(private), private


@pytest.mark.parametrize(
    ("extras", "installed", "code"),
    [(None, False, 0), ("", False, 0), ("kms", True, 0), ("s3", True, 0), ("kms,s3", True, 0), ("boto3", False, 1)],
)
def test_boto3_comes_where_it_is_asked_for(extras: str | None, installed: bool, code: int) -> None:
    """The build stage's own line, with `echo` in the place of the Python that would install."""
    (line,) = [rest for rest in rests(stages()[0], "RUN") if "EXTRAS" in rest]
    said = {**os.environ} if extras is None else {**os.environ, "EXTRAS": extras}
    command = ["sh", "-ec", line.replace("/opt/tollway/bin/python", "echo")]
    done = subprocess.run(command, env=said, capture_output=True, text=True, timeout=30)
    assert done.returncode == code
    assert ("-r requirements-aws.lock" in done.stdout) is installed
    assert ("EXTRAS is kms, s3 or kms,s3, not boto3" in done.stderr) is (code == 1)
    assert ("ARG", "EXTRAS=") in stages()[0]


@pytest.mark.skipif(not os.environ.get("TOLLWAY_IMAGE_CHECK"), reason="needs the package index: run `make image-check`")
@pytest.mark.timeout(300)
def test_the_steps_make_a_gateway(tmp_path: Path) -> None:
    """The build stage's own COPY and RUN lines, with the image's paths moved below a temporary folder."""

    def moved(text: str) -> str:
        return re.sub(r"(?<![\w./])/(?=(opt|src|dist)\b)", f"{tmp_path}/", text)

    subprocess.run([sys.executable, "-m", "venv", tmp_path / "image"], check=True, timeout=60)
    system = {**os.environ, "PATH": f"{tmp_path}/image/bin:{os.environ['PATH']}", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    system.pop("TOLLWAY_CONFIG", None)
    source = tmp_path / "src"
    source.mkdir()
    for instruction, rest in stages()[0]:
        if instruction == "COPY":
            for name in rest.split()[:-1]:
                copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
                copy(ROOT / name, source / name)
        elif instruction == "RUN":
            subprocess.run(["sh", "-ec", moved(rest)], cwd=source, env=system, check=True, timeout=120)
    shutil.rmtree(source)  # what is installed must not lean on what it was built from

    state = tmp_path / "state"
    state.mkdir()

    def run(*command: str) -> str:
        done = subprocess.run(command, cwd=state, env=system, capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, done.stderr
        return done.stdout

    binaries = tmp_path / "opt/tollway/bin"
    assert not list(binaries.glob("pip*"))
    version = re.search(r'__version__ = "(.+)"', (ROOT / "proxy/__init__.py").read_text())
    assert version is not None
    assert version[1] in run(str(binaries / "tollway"), "--version")
    settings = run(str(binaries / "python"), "-c", "import proxy; print(proxy.__path__[0] + '/config/quickstart.toml')")
    run(str(binaries / "tollway"), "check", "--config", settings.strip())
