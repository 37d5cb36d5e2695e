"""What the supervisor has read is what a worker loads, whatever stands in the files by then."""

from functools import partial

import pytest

from proxy.app import handover as module
from proxy.app.handover import Handover
from proxy.cli.configuration import read_configuration
from proxy.settings.problem import SettingsError

FILE = """
[state]
folder = "{state}"
[auth]
mode = "{mode}"
[admin]
tokens = [{{ name = "op", token = "file:token", roles = ["read"] }}]
"""


class Bench:
    def __init__(self, folder):
        self.path, self.token = folder / "t.toml", folder / "token"
        self.state = folder / "state"
        self.state.mkdir()
        self.write("passthrough", "a")
        self.handover = Handover(lambda through=None: self.read(through))
        self.in_force = self.read()

    def text(self, mode):
        return FILE.format(mode=mode, state=self.state)

    def write(self, mode, letter):
        self.path.write_text(self.text(mode))
        self.token.write_text(letter * 40)

    def read(self, through=None):
        return read_configuration(str(self.path), {}, through).settings

    def token_in_force(self):
        (token,) = self.handover.load().admin.tokens
        return token.token.reveal()


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def test_a_worker_loads_what_was_read_with_every_file_that_it_names(bench):
    bench.write("trusted-headers", "b")
    read = bench.handover.read(bench.in_force)
    bench.path.write_text("[[[")
    bench.token.unlink()
    for _ in range(2):  # each worker
        loaded = bench.handover.load()
        assert loaded.version == read.version != bench.in_force.version
        assert bench.token_in_force() == "b" * 40


def test_what_is_refused_leaves_what_was_handed_over_before(bench):
    bench.write("trusted-headers", "b")
    bench.handover.read(bench.in_force)
    (bench.state / "pepper").write_text("no pepper")
    refusals = (
        ("[[[", SettingsError),
        (bench.text("virtual-keys"), ValueError),  # the file is right, and no worker could put it in force
        (bench.text("passthrough").replace("file:token", "file:none"), SettingsError),
    )
    for text, error in refusals:
        bench.path.write_text(text)
        with pytest.raises(error):
            bench.handover.read(bench.in_force)
        assert bench.token_in_force() == "b" * 40


def test_too_much_is_refused(bench, monkeypatch):
    monkeypatch.setattr(module, "BYTES_MAX", 64)
    handover = Handover(partial(bench.read))
    with pytest.raises(ValueError, match="larger than 64 bytes"):
        handover.read(bench.in_force)
    with pytest.raises(ValueError, match="has left none"):
        handover.load()
