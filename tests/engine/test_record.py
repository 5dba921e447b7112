import json

from medmcl.engine.record import Record, progress, read_metrics


def test_a_resumed_stage_forgets_what_came_after_its_checkpoint(tmp_path):
    record = Record(tmp_path / "metrics.jsonl", active=True)
    record.write({"stage": "mdm", "step": 9, "loss": 1.0})
    for step in (1, 2, 3):
        record.write({"stage": "mmcl", "step": step, "loss": float("nan")})
    with record.path.open("a") as file:
        file.write('{"stage": "mmcl", "st')  # the process was killed here
    record.rewind("mmcl", 2)
    rows = read_metrics(record.path)
    assert [(row["stage"], row["step"]) for row in rows] == [("mdm", 9), ("mmcl", 1), ("mmcl", 2)]
    assert rows[1]["loss"] is None
    assert all(json.loads(line) for line in record.path.read_text().splitlines())


def test_ranks_beside_the_first_write_nothing(tmp_path):
    Record(tmp_path / "metrics.jsonl", active=False).write({"step": 1})
    assert not (tmp_path / "metrics.jsonl").exists()


def test_no_bar_is_drawn_where_there_is_no_terminal(capsys):
    with progress("x", 3, shown=True) as bar:
        bar(1, "note")
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""
