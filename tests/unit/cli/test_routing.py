"""`tollway deployments` and `tollway models`, beside a gateway: what is typed, what is told, what is kept."""

import io
import json

import pytest

from proxy.__main__ import main
from tests.cli_result import begin_state

TEXT = """
[providers.one]
transport = "simulated"
[providers.two]
transport = "simulated"
[models.m]
deployments = [{ provider = "one", model = "a" }, { provider = "two", model = "a" }]
[models.other]
deployments = [{ provider = "one", model = "b", drained = true }, { provider = "two", model = "a" }]
"""


class Bench:
    """One configuration in one folder, and commands run against it."""

    def __init__(self, folder):
        self.path = folder / "t.toml"
        begin_state(folder / "state")
        self.path.write_text(f'[state]\nfolder = "{folder / "state"}"\n{TEXT}')

    def run(self, *words, code=0):
        output, errors = io.StringIO(), io.StringIO()
        found = main([*words, "--config", str(self.path)], environ={}, output=output, errors=errors)
        assert found == code, errors.getvalue()
        return output.getvalue(), errors.getvalue()

    def answer(self, *words):
        return json.loads(self.run(*words, "--json")[0])


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def test_deployments_are_listed_with_what_they_serve(bench):
    listed = bench.answer("deployments", "list")["deployments"]
    assert [(each["id"], each["models"], each["drained"]) for each in listed] == [
        ("one/a", ["m"], False),
        ("one/b", ["other"], True),
        ("two/a", ["m", "other"], False),
    ]
    output, _ = bench.run("deployments", "list")
    assert "drained in the file" in output
    assert output.count("in service") == 2


def test_a_deployment_is_drained_and_put_back(bench):
    output, errors = bench.run("deployments", "drain", "one/a")
    assert output == "Drained one/a. Running gateways see it within a second.\n"
    assert errors == ""
    listed = {each["id"]: each for each in bench.answer("deployments", "list")["deployments"]}
    assert listed["one/a"]["drained"] is True
    assert listed["one/a"]["changed_by"].startswith("cli:")
    (row,) = [line for line in bench.run("deployments", "list")[0].splitlines() if line.startswith("one/a ")]
    assert row.endswith(f"drained since {listed['one/a']['changed_at']}, by {listed['one/a']['changed_by']}")
    bench.run("deployments", "restore", "one/a")
    assert bench.answer("deployments", "list")["deployments"][0]["drained"] is False


def test_the_last_one_in_service_comes_with_a_note(bench):
    _, errors = bench.run("deployments", "drain", "two/a")
    assert "the last deployment in service of other" in errors
    assert "of m:" not in errors
    _, errors = bench.run("deployments", "restore", "one/b")
    assert "The configuration's file still drains one/b" in errors


def test_a_model_is_switched_and_serves_itself_again(bench):
    output, _ = bench.run("models", "switch", "m", "--to", "other")
    assert output == "m is served by other. Running gateways see it within a second.\n"
    listed = {each["id"]: each["switched_to"] for each in bench.answer("models", "list")["models"]}
    assert listed == {"m": "other", "other": None}
    assert "by cli:" in bench.run("models", "list")[0]
    output, _ = bench.run("models", "restore", "m")
    assert output.startswith("m is served by itself.")


def test_what_has_left_the_file_is_listed_until_it_is_taken_back(bench):
    bench.run("deployments", "drain", "one/b")
    bench.run("models", "switch", "other", "--to", "m")
    bench.path.write_text(bench.path.read_text().partition("[models.other]")[0])
    assert "one/b       no model" in bench.run("deployments", "list")[0]
    assert [each["id"] for each in bench.answer("models", "list")["models"]] == ["m", "other"]
    assert bench.run("deployments", "restore", "one/b")[0].startswith("Put back in service: one/b.")
    assert bench.run("models", "restore", "other")[0].startswith("other is served by itself.")
    assert [each["id"] for each in bench.answer("deployments", "list")["deployments"]] == ["one/a", "two/a"]
    assert [each["id"] for each in bench.answer("models", "list")["models"]] == ["m"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("deployments", "drain", "one/c"), 'Did you mean "one/'),
        (("deployments", "restore", "nobody"), "`tollway deployments list` shows them"),
        (("models", "switch", "n", "--to", "other"), "the configuration has no model 'n'"),
        (("models", "switch", "m", "--to", "othr"), 'Did you mean "other"?'),
        (("models", "switch", "m", "--to", "m"), "m leads back to m"),
    ],
)
def test_what_is_not_there_is_usage(bench, words, said):
    _, errors = bench.run(*words, code=2)
    assert said in errors
