"""Files of prices are read whole or not at all, and replaced all together."""

import os
from pathlib import Path

import pytest

from proxy.adapters import price_files
from proxy.adapters.price_files import names_in, read_price_files, replace_price_files


def test_each_catalogue_has_its_file_under_its_name(tmp_path: Path) -> None:
    replace_price_files(tmp_path, {"openai": b"1", "azure-eu": b"2"})
    (tmp_path / "README.md").write_text("no prices")
    assert names_in(tmp_path) == ["azure-eu", "openai"]
    texts = read_price_files(tmp_path, ["openai", "openai@eu", "nobody"])
    assert texts == {"openai": b"1", "openai@eu": b"1"}


def test_a_file_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(price_files, "FILE_BYTES_MAX", 3)
    replace_price_files(tmp_path, {"openai": b"1234"})
    with pytest.raises(ValueError, match=r"openai\.json is larger"):
        read_price_files(tmp_path, ["openai"])


def test_what_cannot_be_written_leaves_all_as_it_was(tmp_path: Path) -> None:
    replace_price_files(tmp_path, {"a": b"old", "b": b"old"})
    os.mkdir(tmp_path / "b.json.new")  # in the way
    with pytest.raises(IsADirectoryError):
        replace_price_files(tmp_path, {"a": b"new", "b": b"new"})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes() == b"old"
    assert not (tmp_path / "a.json.new").exists()
