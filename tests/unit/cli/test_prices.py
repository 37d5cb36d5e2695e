"""`tollway prices`: what is shown, what an update writes, and what it refuses to touch."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from proxy.__main__ import main
from proxy.cli.prices import usd

ENTRY = {
    "litellm_provider": "openai",
    "mode": "chat",
    "max_input_tokens": 1_000,
    "max_output_tokens": 100,
    "input_cost_per_token": 1e-06,
    "output_cost_per_token": 4e-06,
    "input_cost_per_token_priority": 2e-06,
}


def run(*words: str) -> tuple[int, str, str]:
    output, errors = io.StringIO(), io.StringIO()
    code = main(words, environ={}, output=output, errors=errors)
    return code, output.getvalue(), errors.getvalue()


def table(path: Path, **models: Any) -> str:
    path.write_text(json.dumps({name: ENTRY | fields for name, fields in models.items()}))
    return str(path)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Price files of two models."""
    made = tmp_path / "prices"
    code, _, errors = run(
        "prices", "update", "--from", table(tmp_path / "t.json", **{"gpt-a": {}, "gpt-b": {}}), "--folder", str(made)
    )
    assert code == 0, errors
    return made


def test_show_one_model_with_all_of_its_tiers(folder: Path) -> None:
    code, output, errors = run("prices", "show", "gpt-a", "--folder", str(folder))
    lines = [line.split() for line in output.splitlines()]
    assert code == 0
    assert lines[1][:7] == ["gpt-a", "openai", "standard", "0", "1", "1", "4"]
    assert lines[2][:7] == ["gpt-a", "openai", "priority", "0", "2", "2", "4"]
    assert "Dollars for a million tokens" in errors


def test_show_what_contains_a_text_a_line_for_each(folder: Path) -> None:
    _, output, _ = run("prices", "show", "GPT", "--folder", str(folder), "--provider", "openai")
    assert [line.split()[0] for line in output.splitlines()[1:]] == ["gpt-a", "gpt-b"]


def test_show_for_programs(folder: Path) -> None:
    _, output, errors = run("prices", "show", "gpt-a", "--folder", str(folder), "--json")
    document = json.loads(output)
    (model,) = document["models"]
    assert (model["model"], model["catalog"], model["context_tokens"]) == ("gpt-a", "openai", 1_000)
    assert model["tiers"]["priority"][0]["input_nusd_per_mtok"] == 2_000_000_000
    assert errors == ""


@pytest.mark.parametrize(
    "words", [("show", "nothing-like-it"), ("show", "--provider", "nobody"), ("show", "--folder", "/nowhere/at/all")]
)
def test_what_is_not_there_is_said_in_a_line(words: tuple[str, ...]) -> None:
    code, output, errors = run("prices", *words)
    assert (code, output) == (1, "")
    assert errors.startswith("tollway: ")


def test_the_shipped_prices_need_no_configuration() -> None:
    assert run("prices", "show", "simulated", "--config", "/nowhere.toml")[0] == 0


def test_a_bad_file_is_refused_with_every_problem(folder: Path) -> None:
    path = folder / "openai.json"
    path.write_text(path.read_text().replace('"input_usd_per_mtok": "1"', '"input_usd_per_mtok": "-1"'))
    code, output, errors = run("prices", "show", "--folder", str(folder))
    assert (code, output) == (1, "")
    assert "openai.models.gpt-a.prices[0].tiers.standard[0].input_usd_per_mtok: expected dollars" in errors
    assert "2 problems" in errors


# ── update ───────────────────────────────────────────────────────────────────────────────


def test_an_update_is_deterministic_and_touches_only_what_changed(folder: Path, tmp_path: Path) -> None:
    before = files(folder)
    same = table(tmp_path / "same.json", **{"gpt-b": {}, "gpt-a": {}})
    code, _, errors = run("prices", "update", "--from", same, "--folder", str(folder))
    assert (code, files(folder)) == (0, before)
    assert "Nothing has changed" in errors


def test_an_update_keeps_the_old_price_beside_the_new_one(folder: Path, tmp_path: Path) -> None:
    dearer = table(tmp_path / "new.json", **{"gpt-a": {"input_cost_per_token": 3e-06}, "gpt-c": {}})
    code, output, _ = run("prices", "update", "--from", dearer, "--folder", str(folder), "--json")
    assert code == 0
    assert json.loads(output)["providers"] == [
        {"provider": "openai", "models": 3, "new": 1, "price_changed": 1, "no_longer_listed": 1}
    ]
    models = json.loads((folder / "openai.json").read_text())["models"]
    assert [each["tiers"]["standard"][0]["input_usd_per_mtok"] for each in models["gpt-a"]["prices"]] == ["1", "3"]
    assert len(models["gpt-b"]["prices"]) == 1


@pytest.mark.parametrize(
    ("models", "said"),
    [
        ({"gpt-a": {"input_cost_per_token": -1}, "gpt-b": {}}, "gpt-a.input_cost_per_token"),
        ({"gpt-a": {"input_cost_per_token": 1}, "gpt-b": {}}, "gpt-a.input_cost_per_token"),
        ({"gpt-a": {"output_cost_per_token": None}, "gpt-b": {}}, "openai.gpt-a: expected a price, as before"),
        ({"gemini/x": {"litellm_provider": "gemini"}}, "openai: expected prices of this provider"),
    ],
)
def test_a_table_with_missing_or_absurd_prices_changes_nothing(
    folder: Path, tmp_path: Path, models: dict[str, Any], said: str
) -> None:
    before = files(folder)
    code, _, errors = run("prices", "update", "--from", table(tmp_path / "bad.json", **models), "--folder", str(folder))
    assert code == 1
    assert said in errors
    assert files(folder) == before


def test_a_table_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    missing, broken = tmp_path / "no.json", tmp_path / "litellm-1.0-py3-none-any.whl"
    broken.write_text("half a download")
    code, _, errors = run("prices", "update", "--from", str(missing))
    assert (code, errors) == (1, f"tollway: cannot read {missing}: No such file or directory\n")
    code, _, errors = run("prices", "update", "--from", str(broken))
    assert (code, errors) == (1, f"tollway: {broken} is not a wheel: download it again.\n")


def test_lost_prices_can_be_kept(folder: Path, tmp_path: Path) -> None:
    lost = table(tmp_path / "lost.json", **{"gpt-a": {"output_cost_per_token": None}, "gpt-b": {}})
    assert run("prices", "update", "--from", lost, "--folder", str(folder), "--keep-lost")[0] == 0
    assert run("prices", "show", "gpt-a", "--folder", str(folder))[0] == 0


def test_a_wheel_names_its_version(tmp_path: Path) -> None:
    wheel = tmp_path / "litellm-9.8.7-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("litellm/model_prices_and_context_window_backup.json", json.dumps({"gpt-a": ENTRY}))
    code, _, errors = run("prices", "update", "--from", str(wheel), "--folder", str(tmp_path / "made"))
    assert code == 0, errors
    source = json.loads((tmp_path / "made/openai.json").read_text())["source"]
    assert source.startswith("LiteLLM 9.8.7: ")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff"])
def test_what_is_no_table_is_refused(folder: Path, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.json"
    path.write_bytes(content)
    before = files(folder)
    code, _, errors = run("prices", "update", "--from", str(path), "--folder", str(folder))
    assert code == 1
    assert errors.startswith("tollway: ")
    assert files(folder) == before


def test_a_wheel_without_a_table_is_refused(tmp_path: Path) -> None:
    wheel = tmp_path / "other-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("other/x.py", "")
    assert run("prices", "update", "--from", str(wheel), "--folder", str(tmp_path))[0] == 1


@pytest.mark.parametrize(
    ("nusd", "text"), [(0, "0"), (1, "0.000000001"), (12_500_000, "0.0125"), (10**9, "1"), (1_200_000_000, "1.2")]
)
def test_dollars_are_plain(nusd: int, text: str) -> None:
    assert usd(nusd) == text
