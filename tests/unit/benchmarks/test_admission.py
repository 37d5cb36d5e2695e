import json

from benchmarks.admission import main


def test_it_measures_both_stores_and_writes_what_it_shows(redis_url, tmp_path, monkeypatch, capsys):
    arguments = ["admission", "--redis", redis_url, "--calls", "20", "--tenants", "40", "--out", str(tmp_path)]
    monkeypatch.setattr("sys.argv", arguments)
    assert main() == 0
    document = json.loads((tmp_path / "admission.json").read_text())
    measured = [(each["store"], each["step"], each["tenants"], each["tasks"]) for each in document["figures"]]
    for store in ("redis", "sqlite"):
        for tenants, tasks in ((1, 1), (1, 32), (40, 32)):
            for step in ("admit", "settle"):
                assert (store, step, tenants, tasks) in measured
    assert len(document["redis_bytes"]) == 5
    assert min(document["redis_bytes"].values()) > 50
    shown = capsys.readouterr().out
    assert "bytes in Redis: a user" in shown
    assert "load average before" in shown
