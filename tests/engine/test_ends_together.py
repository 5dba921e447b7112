"""Where a rank fails, all end together: in time, with one exit code, one message, nothing lost."""

import json
import os
import shutil
import signal
import socket

import pytest
import torch

from benchmarks.faults import ranks
from benchmarks.faults.rank_faults import STATED, Fault
from benchmarks.faults.ranks import launched, made, words_of
from medmcl.core.errors import ConfigError
from medmcl.engine import distributed, loop
from medmcl.engine.rank_store import rank_and_size
from medmcl.objectives.pairwise import contrastive

KILLED = -9


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    threads = torch.get_num_threads()
    yield ranks.begun(tmp_path_factory.mktemp("inputs"), evaluates=False)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def calm(inputs, tmp_path_factory):
    """A run that nothing disturbs; and how long it takes."""
    home = tmp_path_factory.mktemp("calm")
    ended, seconds = launched(words_of(*inputs, home / "run"), home)
    assert [one.code for one in ended] == [0, 0], ended
    return home / "run", seconds


def said_by(ended):
    """The one message of all ranks."""
    said = "".join(one.said for one in ended)
    assert "Traceback" not in said, said
    assert said.count("error: ") + said.count("stopped: ") == 1, said
    return said


def met(fault, inputs, out):
    """A run that a fault meets."""

    def each(rank):
        if rank == fault.rank:
            fault.install()

    return launched(words_of(*inputs, out), out.parent / "said", each=each)


@pytest.mark.parametrize(
    ("fault", "codes", "answer"),
    [
        (Fault("killed", "preparing", 0), [KILLED, 1], "rank 0 of 2 (process "),
        (Fault("killed", "the first step", 0), [KILLED, 1], "has died, without a word"),
        (Fault("killed", "rehearsing", 1), [1, KILLED], "rank 1 of 2 (process "),
        (Fault("stopped", "a step in the middle", 1), [1, KILLED], "no sign of life for 4 s"),
        (Fault("stopped", "rehearsing", 0), [KILLED, 1], "no sign of life for 4 s"),
        (Fault("late", "preparing", 1), [1, 1], "rank 1 of 2 (process "),
        (Fault("late", "reading rows", 1), [1, 1], "rank 1 at: contrast, reading rows of step 3"),
        (Fault("a record cannot be read", "reading rows", 1), [2, 2], "labs.csv, p007: cannot be"),
        (Fault("out of memory", "the tuning loss", 1), [1, 1], "after step 2: MemoryError"),
        (Fault("a fault of the code", "the first step", 1), [1, 1], "has the traceback"),
        (Fault("told to stop", "preparing", 1), [75, 75], "go on with: medmcl"),
        (Fault("the disk is full", "within a save", 0), [1, 1], "No space left on device"),
    ],
    ids=lambda one: f"{one.kind} at {one.point}" if isinstance(one, Fault) else "",
)
def test_all_end_in_time_with_one_code_and_one_message(
    fault, codes, answer, inputs, calm, tmp_path
):
    ended, seconds = met(fault, inputs, tmp_path / "run")
    assert [one.code for one in ended] == codes, ended
    assert answer in said_by(ended)
    assert seconds < calm[1] + STATED + 5


def test_all_end_where_a_rank_is_killed_as_blocks_of_a_loss_go_round(inputs, calm, tmp_path):
    real, calls = distributed.pass_on, []

    def passed(*given, **more):
        calls.append(1)
        if len(calls) == 4:  # the first of a backward pass
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*given, **more)

    def each(rank):
        contrastive.TILE_FROM["cpu"] = 2
        if rank == 1:
            distributed.pass_on = passed

    ended, seconds = launched(words_of(*inputs, tmp_path / "run"), tmp_path / "said", each=each)
    assert [one.code for one in ended] == [1, KILLED], ended
    assert "has died, without a word" in said_by(ended)
    assert seconds < calm[1] + STATED + 5


def test_a_run_gone_on_with_equals_one_that_nothing_disturbed(inputs, calm, tmp_path):
    out = tmp_path / "run"
    ended, _ = met(Fault("killed", "a step in the middle", 1), inputs, out)
    assert [one.code for one in ended] == [1, KILLED]
    assert "rank" in said_by(ended)
    again, _ = launched([*words_of(*inputs, out), "--resume"], tmp_path / "again")
    assert [one.code for one in again] == [0, 0], again
    assert made(out) == made(calm[0])


def test_one_rank_told_to_stop_stops_all_and_another_number_goes_on(inputs, tmp_path):
    out = tmp_path / "run"
    ended, _ = met(Fault("told to stop", "a step in the middle", 1), inputs, out)
    assert [one.code for one in ended] == [75, 75], ended
    assert "saved at step" in said_by(ended)
    one, _ = launched([*words_of(*inputs, out), "--resume"], tmp_path / "one", 1)
    assert one[0].code == 0, one
    assert json.loads((out / "checkpoint" / "contrast" / "done.json").read_text())["steps"] == 6


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["--seed", "1"], "got:      seed: 0 -> 1"),
        (["--set", "stages.contrast.steps=9"], "steps: 6 -> 9"),
        (["--cohort", "OTHER"], "cohort_fingerprint"),
    ],
)
def test_ranks_that_are_asked_for_something_else_are_refused(words, answer, inputs, tmp_path):
    if "OTHER" in words:
        other = shutil.copytree(inputs[0], tmp_path / "other")
        table = (other / "people.csv").read_text().replace(" ward", " room", 1)
        (other / "people.csv").write_text(table)
        words = ["--cohort", other]
    ended, _ = launched(
        words_of(*inputs, tmp_path / "run"), tmp_path, own=lambda rank: words if rank else ()
    )
    assert [one.code for one in ended] == [2, 2], ended
    said = said_by(ended)
    assert "the ranks of one run differ: what they are asked for" in said
    assert answer in said
    assert not (tmp_path / "run").exists()


def test_a_port_that_is_taken_is_named(inputs, tmp_path):
    with socket.socket() as taken:
        taken.bind(("localhost", 0))
        taken.listen()
        told = {"MASTER_PORT": str(taken.getsockname()[1])}
        ended, seconds = launched(
            words_of(*inputs, tmp_path / "run"), tmp_path, environment=lambda _: told
        )
    assert [one.code for one in ended] == [2, 2], ended
    assert "the port where ranks meet is taken" in ended[0].said
    assert "is no rank of this run" in ended[1].said
    assert seconds < STATED


@pytest.mark.parametrize(
    ("told", "answer"),
    [
        ({"WORLD_SIZE": "2"}, "RANK is not set"),
        ({"RANK": "1"}, "WORLD_SIZE is not set"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "names no rank"),
        ({"RANK": "one", "WORLD_SIZE": "2"}, "names no rank"),
    ],
)
def test_an_environment_that_tells_half_is_refused(told, answer, monkeypatch):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
        if name in told:
            monkeypatch.setenv(name, told[name])
    with pytest.raises(ConfigError, match=answer):
        rank_and_size()


def test_a_loss_that_is_not_finite_on_one_rank_skips_the_step_on_all(inputs, tmp_path):
    forward = loop.Learner.forward

    def spoil(rank):
        calls = iter(range(100))

        def spoilt(self, views, batch, world):
            loss, terms = forward(self, views, batch, world)
            return (loss * float("nan") if next(calls) == 1 else loss), terms

        if rank == 1:
            loop.Learner.forward = spoilt  # of this fork

    out = tmp_path / "run"
    ended, _ = launched(words_of(*inputs, out), tmp_path, each=spoil)
    assert [one.code for one in ended] == [0, 0], ended
    facts = json.loads((out / "checkpoint" / "contrast" / "done.json").read_text())
    assert facts["skipped_steps"] == 1
    assert facts["steps"] == 6


def test_ranks_without_rows_take_part(inputs, tmp_path):
    few = ["--set", "stages.contrast.batch_size=2", "--set", "stages.contrast.steps=3"]
    ended, _ = launched([*words_of(*inputs, tmp_path / "run"), *few], tmp_path, 3)
    assert [one.code for one in ended] == [0, 0, 0], ended
