"""The README does what it says: its blocks are run from top to bottom, as a reader would paste
them, and what they print is compared with what stands there. So is what the cache's page says to try.

A block's output is the `text` block right after it. There `…` stands for anything within a line,
alone on a line for any lines, and a line break may also be a fold. The ports are the real ones,
or free ones where those are taken.
"""

import base64
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from proxy.settings.load import load

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
DEPLOYMENT = (ROOT / "docs/deployment.md").read_text()
CACHE = (ROOT / "docs/cache.md").read_text()
PATIENCE_S = 20.0
NODE_MODULES = ROOT / "build/node/node_modules"
NO_NODE = "needs node, and `npm install --prefix build/node openai`"
DATA, ADMIN = 8080, 8081  # what the page writes


@dataclass(frozen=True)
class Block:
    """One fenced block, and what it is said to print."""

    language: str
    text: str
    output: str | None
    line: int


def blocks_of(page: str) -> list[Block]:
    found: list[Block] = []
    last_end = -1
    for match in re.finditer(r"(?ms)^```(\w*)\n(.*?)\n?^```$", page):
        line = page.count("\n", 0, match.start()) + 1
        if match[1] == "text":
            assert found, f"line {line}: an output without a command"
            assert not page[last_end : match.start()].strip(), f"line {line}: an output apart from its command"
            before = found.pop()
            found.append(Block(before.language, before.text, match[2], before.line))
        else:
            found.append(Block(match[1], match[2], None, line))
        last_end = match.end()
    return found


def matches(shown: str, real: str) -> bool:
    """Whether the page's output is the real one, but for what it leaves out."""
    pieces = []
    for line in shown.strip().split("\n"):
        if line.strip() == "…":
            pieces.append("(?s:.*?)")
        else:
            words = [re.sub("( )+", " +", re.escape(part).replace(r"\ ", " ")) for part in line.split("…")]
            pieces.append("[^\n]*?".join(words))
    return re.fullmatch(r"\s*".join(pieces), real.strip()) is not None


@dataclass
class Stage:
    """A reader's folder: a checkout as far as the page needs one."""

    folder: Path
    data_port: int
    admin_port: int
    environ: dict[str, str]
    seen: list[str] = field(default_factory=list)

    def with_ports(self, text: str) -> str:
        moved = text.replace(f"127.0.0.1:{DATA}", f"127.0.0.1:{self.data_port}")
        return moved.replace(f"127.0.0.1:{ADMIN}", f"127.0.0.1:{self.admin_port}")

    def as_on_the_page(self, printed: str) -> str:
        """The output with the page's own ports."""
        moved = printed.replace(f"127.0.0.1:{self.data_port}", f"127.0.0.1:{DATA}")
        return moved.replace(f"127.0.0.1:{self.admin_port}", f"127.0.0.1:{ADMIN}")

    def write_config(self, text: str) -> None:
        """A file of the page, named by its first line."""
        named = re.match(r"# (\S+\.toml)\n", text)
        assert named is not None, "a file's block begins with its name"
        if self.data_port != DATA:
            bind = f'bind = "127.0.0.1:{self.data_port}"\nadmin_bind = "127.0.0.1:{self.admin_port}"\n'
            text = f"[server]\n{bind}\n{text}"
        (self.folder / named[1]).write_text(text)

    def shell(self, block: Block) -> str:
        """What a block prints. As in one terminal, its variables are there for the next."""
        text = self.with_ports(block.text)
        if "vk_…" in text:  # the reader puts in the id that was listed
            text = text.replace("vk_…", re.findall(r"\bvk_\w+", "\n".join(self.seen))[-1])
        script = f"set -ea; [ -f .shell ] && . ./.shell\n{text}\nexport -p > .shell\n"
        return self.run(["bash", "-c", script], block)

    def run(self, command: list[str], block: Block) -> str:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE_S,
        )
        assert done.returncode == 0, f"README.md:{block.line} failed:\n{done.stdout}"
        self.seen.append(done.stdout)
        return done.stdout

    def check(self, block: Block, printed: str) -> None:
        real = self.as_on_the_page(printed)
        if block.output is not None:
            told = f"README.md:{block.line} shows\n{block.output}\nand the truth is\n{real}"
            assert matches(block.output, real), told

    @contextmanager
    def gateway(self, config: str) -> Iterator[str]:
        """What `make serve` comes to; gives what it printed. It has to end well, too."""
        command = [sys.executable, "-m", "proxy", "serve", "--config", config]
        log = self.folder / "serve.log"
        with log.open("wb") as sink:
            process = subprocess.Popen(command, cwd=self.folder, env=self.environ, stdout=sink, stderr=sink)
        try:
            until = time.monotonic() + PATIENCE_S
            while "Health and metrics" not in log.read_text():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < until, f"it did not start:\n{log.read_text()}"
                time.sleep(0.02)
            yield log.read_text()
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE_S) == 0
        finally:
            process.kill()
            process.wait()


def ports() -> tuple[int, int]:
    """The page's own, or free ones."""
    with socket.socket() as data, socket.socket() as admin:
        for each in (data, admin):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            data.bind(("127.0.0.1", DATA))
            admin.bind(("127.0.0.1", ADMIN))
        except OSError:
            with socket.socket() as other_data, socket.socket() as other_admin:
                other_data.bind(("127.0.0.1", 0))
                other_admin.bind(("127.0.0.1", 0))
                return other_data.getsockname()[1], other_admin.getsockname()[1]
        return DATA, ADMIN


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    # Nothing of whoever runs the tests: a real key in their environment must not be spent.
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LD_LIBRARY_PATH") if name in os.environ}
    environ = {**kept, "HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "NO_PROXY": "127.0.0.1"}
    found = Stage(tmp_path, *ports(), environ)
    (tmp_path / "Makefile").symlink_to(ROOT / "Makefile")
    (tmp_path / "config").mkdir()
    quickstart = (ROOT / "config/quickstart.toml").read_text()
    (tmp_path / "config/quickstart.toml").write_text(found.with_ports(quickstart))
    command = tmp_path / ".venv/bin/tollway"
    command.parent.mkdir(parents=True)
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m proxy "$@"\n')
    command.chmod(0o755)
    return found


def test_every_block_is_of_a_kind_that_is_run() -> None:
    blocks = blocks_of(README)
    assert {block.language for block in blocks} == {"bash", "python", "javascript", "toml"}
    assert [block.line for block in blocks if block.output is None and block.language in ("python", "javascript")] == []


@pytest.mark.skipif(shutil.which("curl") is None, reason="the README's first commands need curl")
def test_the_blocks_run_and_print_what_is_shown(stage: Stage) -> None:
    blocks = blocks_of(README)
    starts = [at for at, block in enumerate(blocks) if block.text.startswith("make serve")]
    assert starts[0] == 0, "the page begins with `make serve`"
    for start, end in zip(starts, [*starts[1:], len(blocks)], strict=True):
        config = re.search(r"CONFIG=(\S+)", blocks[start].text)
        with stage.gateway(config[1] if config else "config/quickstart.toml") as printed:
            check_start(stage, blocks[start], printed)
            for block in blocks[start + 1 : end]:
                run(stage, block)


def check_start(stage: Stage, block: Block, printed: str) -> None:
    """The Makefile's lines come before the gateway's, on a fresh machine. Here no .venv is made: they are read."""
    if block.output is not None:
        *made, state, note, listens, health = block.output.split("\n")
        makefile = (ROOT / "Makefile").read_text()
        for line in made:
            assert line.replace(".venv", "$(VENV)").removesuffix("Python …") in makefile, line
        assert matches(f"{state}\n{note}\n{listens}\n{health}", stage.as_on_the_page(printed))


def run(stage: Stage, block: Block) -> None:
    if block.language == "toml":
        stage.write_config(block.text)
    elif block.language == "python":
        stage.environ["OPENAI_API_KEY"] = exported(stage, "OPENAI_API_KEY")
        stage.check(block, stage.run([sys.executable, "-c", stage.with_ports(block.text)], block))
    elif block.text == "make test":
        pass  # this is it
    elif block.language == "bash":
        stage.check(block, stage.shell(block))


def exported(stage: Stage, name: str) -> str:
    """A variable that an earlier block of the page has set."""
    found = re.search(rf'(?m)^declare -x {name}="(.*)"$', (stage.folder / ".shell").read_text())
    assert found is not None, f"no block before this one sets {name}"
    return found[1]


@pytest.mark.skipif(shutil.which("node") is None or not (NODE_MODULES / "openai").is_dir(), reason=NO_NODE)
def test_the_node_block_runs_and_prints_what_is_shown(stage: Stage) -> None:
    (block,) = (block for block in blocks_of(README) if block.language == "javascript")
    (stage.folder / "node_modules").symlink_to(NODE_MODULES)
    (stage.folder / "block.mjs").write_text(stage.with_ports(block.text))
    stage.environ["OPENAI_API_KEY"] = "none"
    with stage.gateway("config/quickstart.toml"):
        stage.check(block, stage.run(["node", "block.mjs"], block))


@pytest.mark.skipif(shutil.which("curl") is None, reason="its commands need curl")
def test_the_cache_can_be_tried_as_its_page_says(stage: Stage) -> None:
    stage.write_config(next(block.text for block in blocks_of(README) if block.text.startswith("# team.toml")))
    turned_on, asked = blocks_of(CACHE.partition("## Try it")[2].partition("\n## ")[0])
    edit, _, serve = turned_on.text.rpartition("\n")
    assert serve == "make serve CONFIG=team.toml"
    stage.shell(Block("bash", edit, None, turned_on.line))
    with stage.gateway("team.toml"):
        stage.check(asked, stage.shell(asked))


@pytest.mark.parametrize(
    ("shown", "real", "expected"),
    [
        ('{"id":"…","n":1}', '{"id":"x-7","n":1}', True),
        ('{"id":"…","n":1}', '{"id":"x-7","n":2}', False),
        ("a\n…\nz", "a\nb\nc\nz", True),
        ("a\n…\nz", "a\nb\nc", False),
        ("a…z", "a\nz", False),
        ("a folded\nline", "a foldedline", True),
        ("ID  TENANT", "ID      TENANT", True),
        ("ID  TENANT", "IDTENANT", False),
        ("whole", "whole and more", False),
        ("a.b", "axb", False),
    ],
)
def test_a_page_that_does_not_tell_the_truth_is_found_out(shown: str, real: str, expected: bool) -> None:
    assert matches(shown, real) is expected


def environment_for(text: str) -> Mapping[str, str]:
    """Every variable that a configuration refers to, with a value that fits a pepper, too."""
    return dict.fromkeys(re.findall(r'"env:(\w+)"', text), base64.b64encode(b"p" * 32).decode())


@pytest.mark.parametrize("text", re.findall(r"(?ms)^```toml\n(.*?)^```$", DEPLOYMENT))
def test_every_configuration_on_the_deployment_page_is_accepted_without_a_warning(text: str) -> None:
    settings = load(text, path="page.toml", environ=environment_for(text), read_file=Path.read_text)
    assert settings.warnings == ()
