import datetime
import json

import pytest
from damaged import damage

import medmcl.engine.record
from medmcl.engine.record import Record, read_metrics


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


def test_lines_of_stages_that_ran_at_the_same_time_are_put_in_their_order(tmp_path):
    record = Record(tmp_path / "metrics.jsonl", active=True)
    for stage, step in [("a", 1), ("c", 1), ("b", 1), ("c", 2), ("b", 2), ("d", 1), ("b", 3)]:
        record.write({"stage": stage, "step": step})
    assert record.stages() == {*"abcd"}
    times = {(row["stage"], row["step"]): row["time"]
             for row in read_metrics(record.path, times=True)}  # fmt: skip
    record.sort(["b", "c"])
    rows = read_metrics(record.path, times=True)
    assert "".join(f"{row['stage']}{row['step']}" for row in rows) == "a1b1b2b3c1d1c2"
    assert all(row["time"] == times[row["stage"], row["step"]] for row in rows)
    before = record.path.stat().st_ino
    record.sort(["b", "c"])
    assert record.path.stat().st_ino == before  # in order already


def test_what_others_append_to_is_not_rewound(tmp_path):
    record = Record(tmp_path / "metrics.jsonl", active=True)
    record.write({"stage": "a", "step": 5})
    record.is_shared = True
    record.rewind("a", 1)
    assert len(read_metrics(record.path)) == 1


def test_ranks_beside_the_first_write_nothing(tmp_path):
    Record(tmp_path / "metrics.jsonl", active=False).write({"step": 1})
    assert not (tmp_path / "metrics.jsonl").exists()


def test_lines_carry_the_time_and_what_a_run_took_before_it_was_interrupted(tmp_path, monkeypatch):
    now = 100.0
    monkeypatch.setattr(medmcl.engine.record.time, "monotonic", lambda: now)
    record = Record(tmp_path / "metrics.jsonl", active=True)
    now = 107.5
    record.write({"stage": "mmcl", "step": 1, "loss": 2.0})
    now = 9.0  # another process goes on, whose clock is another one
    again = Record(tmp_path / "metrics.jsonl", active=True)
    now = 11.0
    again.write({"stage": "mmcl", "step": 2, "loss": 1.0})
    rows = read_metrics(record.path, times=True)
    assert [row["elapsed"] for row in rows] == [7.5, 9.5]
    written = [datetime.datetime.fromisoformat(row["time"]) for row in rows]
    assert all(one.utcoffset() == datetime.timedelta(0) for one in written)
    assert [set(row) for row in read_metrics(record.path)] == 2 * [{"stage", "step", "loss"}]


def test_a_line_that_is_nested_too_deeply_is_left_out(tmp_path):
    record = Record(tmp_path / "metrics.jsonl", active=True)
    record.write({"stage": "a", "step": 1})
    with record.path.open("a") as file:
        file.write("[" * 100_000 + "\n")
    record.rewind("a", 1)
    assert [row["step"] for row in read_metrics(record.path)] == [1]


@pytest.mark.parametrize("how", ["zeroed", "flipped", "cut"])
def test_damaged_lines_are_left_out_and_counted_aloud(tmp_path, how, caplog):
    path = tmp_path / "metrics.jsonl"
    record = Record(path, active=True)
    for step in range(6):
        record.write({"stage": "a", "step": step})
    if how == "cut":  # in a line: nothing tells a file that is cut between two
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 + 5])
    else:
        damage(path, how)
    record.write({"stage": "a", "step": 6})
    steps = [row["step"] for row in read_metrics(path)]
    assert steps[0] == 0
    assert steps[-1] == 6
    lost = {"flipped": 1, "zeroed": 3, "cut": 3}[how]
    assert abs(7 - len(steps) - lost) <= 1
    assert "damaged lines of" in caplog.text
