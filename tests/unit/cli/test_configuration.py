"""Which file is read, and what happens where there is none."""

import pytest

from proxy.cli.configuration import FILE_BYTES_MAX, ConfigurationUnreadable, read_configuration, read_text


def write(path, port):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'[server]\nbind = "127.0.0.1:{port}"\n')
    return str(path)


def port_of(named, environ):
    return read_configuration(named, environ).settings.server.bind.port


def test_the_named_file_comes_first_then_the_environment_then_the_quickstart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    named = write(tmp_path / "a.toml", 1)
    environ = {"TOLLWAY_CONFIG": write(tmp_path / "b.toml", 2)}
    write(tmp_path / "config" / "quickstart.toml", 3)
    assert port_of(named, environ) == 1
    assert port_of(None, environ) == 2
    assert port_of(None, {}) == 3
    assert port_of(None, {"TOLLWAY_CONFIG": ""}) == 3


def test_file_references_begin_at_the_files_folder(tmp_path):
    (tmp_path / "bind.txt").write_text("127.0.0.1:9\n")
    (tmp_path / "t.toml").write_text('[server]\nbind = "file:bind.txt"\n')
    assert port_of(str(tmp_path / "t.toml"), {}) == 9


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "No such file"), (b"\xff\xfe", "not UTF-8"), (b"#" * (FILE_BYTES_MAX + 1), "larger than")],
)
def test_a_file_that_cannot_be_read_is_one_clear_line(tmp_path, content, said):
    path = tmp_path / "t.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationUnreadable) as caught:
        read_configuration(str(path), {})
    assert str(path) in str(caught.value)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_byte_order_mark_and_carriage_returns_are_no_syntax_error(tmp_path):
    path = tmp_path / "t.toml"
    path.write_bytes(b"\xef\xbb\xbf[server]\r\nworkers = 1\r\n")
    assert read_text(path) == "[server]\nworkers = 1\n"
    assert read_configuration(str(path), {}).settings.server.workers == 1
