"""Bars on a terminal, lines elsewhere; both say how long work took and still takes."""

import io
import logging

import pytest

from medmcl.core import progress as module
from medmcl.core.progress import Clocked, Pace, clock, progress, span


@pytest.fixture(autouse=True)
def untouched(monkeypatch):
    """The log as it is before the command line has set it up."""
    logger = logging.getLogger("medmcl")
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "propagate", True)


@pytest.fixture
def now(monkeypatch):
    """A clock that tests set: ``now[0]``."""
    time = [50.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: time[0])
    return time


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.2, "1 s"), (40, "40 s"), (100, "2 min"), (89 * 60, "89 min"), (7800, "2 h 10 min"),
     (3 * 3600 - 20, "3 h")],
)  # fmt: skip
def test_spans_are_said_as_people_say_them(seconds, said):
    assert span(seconds) == said


def test_clock():
    assert [clock(x) for x in (0, 59.9, 83, 3600 * 27 + 5)] == [
        "00:00:00", "00:00:59", "00:01:23", "27:00:05",
    ]  # fmt: skip


def test_what_is_left_goes_by_the_pace_since_it_went_on(now):
    pace = Pace(100, done=40)  # 40 steps were done before it was interrupted
    assert pace.left(40) == ""
    now[0] += 120
    assert pace.left(70) == "about 2 min left"
    assert pace.told(70) == "2 min gone, about 2 min left"
    assert pace.place(69) == "70 of 100, 2 min gone, about 2 min left"
    assert pace.left(100) == pace.told(100) == pace.told(40) == ""


def test_without_a_terminal_a_line_comes_every_half_minute(now, capsys, caplog):
    with caplog.at_level(logging.INFO, logger="medmcl"), progress("reading", 1000) as bar:
        for done in range(0, 1001, 10):
            bar(done)
            now[0] += 1
    said = [record.message for record in caplog.records]
    assert said == [
        "reading: 300 of 1,000, 30 s gone, about 70 s left",
        "reading: 600 of 1,000, 60 s gone, about 40 s left",
        "reading: 900 of 1,000, 2 min gone, about 10 s left",
    ]
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_a_line_within_a_piece_of_work_says_its_share(now, caplog):
    with caplog.at_level(logging.INFO, logger="medmcl"), progress("tasks", 2) as bar:
        now[0] += 40
        bar(0.5, "lvef")
    assert [one.message for one in caplog.records] == [
        "tasks: 25%, lvef, 40 s gone, about 2 min left"
    ]


def test_work_that_logs_its_own_lines_and_hidden_work_log_none(now, caplog):
    for more in ({"lines": False}, {"shown": False}):
        with caplog.at_level(logging.INFO, logger="medmcl"), progress("x", 9, **more) as bar:
            now[0] += 100
            bar(1)
    assert not caplog.records


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_on_a_terminal_a_bar_shows_elapsed_and_remaining_time(monkeypatch, caplog):
    screen = Terminal()
    monkeypatch.setattr(module.sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with progress("mmcl", 4) as bar:
        bar(3, "loss 1.5")
    shown = screen.getvalue()
    assert "mmcl" in shown
    assert "3/4" in shown
    assert "0:00:00" in shown
    assert "left" in shown
    assert "loss 1.5" in shown
    assert not caplog.records


def test_lines_of_the_command_line_carry_the_time(now):
    formatter = Clocked()
    now[0] += 83
    record = logging.LogRecord("medmcl", logging.INFO, "", 0, "mmcl  step %d", (5,), None)
    assert formatter.format(record) == "[00:01:23] mmcl  step 5"
