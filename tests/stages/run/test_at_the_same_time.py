"""Stages that read nothing of one another, trained at the same time: equal, stopped, failed."""

import logging
import os
import shutil
import signal
import sys
import time

import pytest
import torch
from processes import none_left

from benchmarks.evaluation.memorised_pairs import LABS, memorising, write_recipe, write_told
from medmcl.data.loading.worker_pool import ProcessDiedError, worker_pool
from medmcl.engine import loop
from medmcl.engine.checkpoint import load_weights_file
from medmcl.engine.loop import Training
from medmcl.engine.record import Record, read_metrics
from medmcl.engine.signals import Interrupted
from medmcl.stages.run.pretrain import pretrain
from medmcl.stages.run.training import _independent
from medmcl.stages.stage import STAGES, Stage

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="copies are made on Linux")
SHARES = (0.25, 0.5, 1.0)
NAMES = [f"head-{share}" for share in SHARES]


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """A cohort, and a recipe whose three heads go on from one stage."""
    folder = tmp_path_factory.mktemp("given")
    tree = memorising(4, binds=False)
    common = {key: tree["stages"][0][key] for key in ("keep", "optimiser")}
    heads = {
        "stage": "train", "name": "head-{share}", "for_each": {"share": list(SHARES)},
        "task": "ill", "label_fraction": "{share}", "towers": [LABS],
        "start_from": {LABS: "contrast"},
        "objectives": {"supervised": {"task": "ill", "modalities": [LABS], "view": "plain"}},
        "batch_size": 8, "steps": 30, "evaluate_every": 1, "log_every": 5, **common,
    }  # fmt: skip
    tree["stages"].append(heads)
    write_recipe(folder / "recipe.yaml", tree)
    return {"cohort": write_told(folder / "cohort", 0), "recipe": folder / "recipe.yaml"}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def alone(given, tmp_path_factory):
    """The run of one process."""
    return pretrain(**given, out=tmp_path_factory.mktemp("alone") / "run", device="cpu")


@pytest.fixture
def processes_of(tmp_path, monkeypatch):
    """Write which process takes a step of which stage, and do more at one of them."""

    def watch(more=None):
        real = Training.step

        def watched(self, *args, **kwargs):
            with (tmp_path / self.plan.stage).open("a") as file:
                file.write(f"{os.getpid()}\n")
            (more or {}).get((self.plan.stage, self.state.step), int)()
            return real(self, *args, **kwargs)

        monkeypatch.setattr(Training, "step", watched)
        return lambda name: {int(line) for line in (tmp_path / name).read_text().split()}

    return watch


def assert_same(run, alone):
    for name in ("contrast", *NAMES):
        for pointer in ("best", "last"):
            mine, theirs = (
                one.checkpoints(name).find(pointer) / "weights.safetensors" for one in (run, alone)
            )
            ours, others = load_weights_file(mine), load_weights_file(theirs)
            assert ours.keys() == others.keys()
            assert all(torch.equal(ours[key], others[key]) for key in ours)
        facts = [
            {key: said for key, said in one.facts(name).items() if "seconds" not in key}
            for one in (run, alone)
        ]
        assert facts[0] == facts[1]
    assert read_metrics(run.path / "metrics.jsonl") == read_metrics(alone.path / "metrics.jsonl")
    listed = [
        {
            str(one.relative_to(x.path))
            for one in x.path.rglob("*")
            if not one.name.endswith(".lock")
        }
        for x in (run, alone)
    ]
    assert listed[0] == listed[1]


def test_several_processes_give_what_one_gives(
    given, alone, processes_of, tmp_path, caplog, monkeypatch
):
    monkeypatch.setattr(logging.getLogger("medmcl"), "propagate", True)
    caplog.set_level("INFO")
    who, bars, real = processes_of(), {}, loop.progress
    monkeypatch.setattr(
        loop,
        "progress",
        lambda title, *args, shown, **kwargs: (
            bars.update({title: shown}) or real(title, *args, shown=shown, **kwargs)
        ),
    )
    with worker_pool(3):
        run = pretrain(**given, out=tmp_path / "run", device="cpu")
    assert bars.pop("contrast")
    assert bars
    assert not any(bars.values())  # into which lines of the others would be written
    assert_same(run, alone)
    assert who("contrast") == {os.getpid()}
    pids = set().union(*(who(name) for name in NAMES))
    assert len(pids) > 1
    assert "3 at a time: " + ", ".join(NAMES) in caplog.text
    assert none_left(pids - {os.getpid()})


@pytest.mark.parametrize("stage", NAMES[:2])
def test_a_stop_signal_to_any_of_them_lets_all_save_and_the_run_goes_on(
    stage, given, alone, processes_of, tmp_path
):
    (other,) = {*NAMES[:2]} - {stage}
    begun, pressed = tmp_path / "begun", tmp_path / "pressed"

    def wait(file):
        while not file.exists():
            time.sleep(0.01)

    def press():
        wait(begun)
        os.kill(os.getpid(), signal.SIGTERM)
        pressed.touch()

    def go_on():
        begun.touch()
        wait(pressed)

    who = processes_of({(stage, 7): press, (other, 7): go_on})  # after the first line of each
    with worker_pool(2), pytest.raises(Interrupted) as stopped:
        pretrain(**given, out=tmp_path / "run", device="cpu")
    assert stopped.value.folder == tmp_path / "run"
    assert str(stopped.value).endswith("; so is what was trained beside it")
    assert len(set().union(*map(who, NAMES[:2]))) == 2
    lines = read_metrics(tmp_path / "run" / "metrics.jsonl")
    for name in NAMES[:2]:  # each saved the step that it had come to
        saved = sorted((tmp_path / "run" / "checkpoint" / name).glob("step-*"))
        steps = (tmp_path / name).read_text().count("\n")
        assert saved[-1].name == f"step-{steps:08d}"
        assert any(line["stage"] == name for line in lines)
    assert not (tmp_path / "run" / "checkpoint" / NAMES[2]).exists()
    with worker_pool(2):
        run = pretrain(**given, out=tmp_path / "run", device="cpu", resume=True)
    assert_same(run, alone)


def test_an_error_is_told_at_once_and_what_is_trained_beside_it_is_kept(
    given, alone, processes_of, tmp_path, monkeypatch
):
    said = tmp_path / "said"

    def fails():
        while not (tmp_path / NAMES[1]).exists():  # nobody would begin it afterwards
            time.sleep(0.01)
        raise RuntimeError("no such thing")

    def hear():
        while not said.exists() or "failed" not in said.read_text():
            time.sleep(0.01)

    def say(self, text):  # also of a copy
        with said.open("a") as file:
            file.write(f"{text}\n")

    with monkeypatch.context() as patch:
        patch.setattr(Record, "say", say)
        processes_of({(NAMES[0], 3): fails, (NAMES[1], 7): hear})
        with worker_pool(2), pytest.raises(RuntimeError, match="no such thing"):
            pretrain(**given, out=tmp_path / "run", device="cpu")
    lines = said.read_text().splitlines()
    told = "failed, no such thing; what is trained beside it goes on first"
    failed = lines.index(f"{NAMES[0]} {told}")
    assert any(line.startswith(f"{NAMES[1]}  step 30/30") for line in lines[failed:])
    monkeypatch.undo()
    with worker_pool(2):
        run = pretrain(**given, out=tmp_path / "run", device="cpu", resume=True)
    assert_same(run, alone)


def test_one_that_is_killed_leaves_the_others_their_end_and_the_run_can_be_gone_on_with(
    given, alone, processes_of, tmp_path, monkeypatch
):
    own = os.getpid()

    def die():
        if os.getpid() != own:
            os.kill(os.getpid(), signal.SIGKILL)

    who = processes_of({(name, 5): die for name in NAMES})
    with worker_pool(2), pytest.raises(ProcessDiedError) as told:
        pretrain(**given, out=tmp_path / "run", device="cpu")
    monkeypatch.undo()
    (left,) = (name for name in NAMES if who(name) != {own})
    assert told.value.where == f"stages not finished: {left}"
    assert "--resume" in told.value.fix
    with worker_pool(2):
        run = pretrain(**given, out=tmp_path / "run", device="cpu", resume=True)
    assert_same(run, alone)


def test_stages_go_together_that_follow_one_another_and_read_nothing_of_one_another(given, alone):
    specs = alone.recipe.stages
    assert [[one.name for one in group] for group in _independent(specs)] == [["contrast"], NAMES]
    chain = specs[1].model_copy(update={"name": "more", "start_from": {LABS: NAMES[1]}})
    found = [[one.name for one in group] for group in _independent([*specs, chain])]
    assert found == [["contrast"], NAMES, ["more"]]


def test_a_stage_that_waits_for_threads_or_chooses_by_what_is_free_goes_alone(alone):
    heads = alone.recipe.stages[1:]
    for key, value in [("compile", True), ("accumulate", "auto"), ("channels_last", "auto")]:
        one, two, three = heads
        mixed = [one, two.model_copy(update={key: value}), three]
        found = [[one.name for one in group] for group in _independent(mixed)]
        assert found == [[name] for name in NAMES], key
    evaluate = [name for name in STAGES if STAGES[name].bears_others is Stage.bears_others]
    assert set(STAGES) - {*evaluate} == {"train"}


@pytest.mark.parametrize(
    ("where", "what"),
    [("torch.accelerator.is_available", lambda: True), ("sys.platform", "darwin")],
    ids=["beside a GPU", "elsewhere"],
)
def test_where_copies_cannot_train_one_process_does_and_says_nothing_else(
    where, what, given, alone, processes_of, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(logging.getLogger("medmcl"), "propagate", True)
    caplog.set_level("INFO")
    who = processes_of()
    monkeypatch.setattr(where, what)
    with worker_pool(3):
        run = pretrain(**given, out=tmp_path / "run", device="cpu")
    assert set().union(*map(who, NAMES)) == {os.getpid()}
    assert "at a time" not in caplog.text
    assert_same(run, alone)


def test_on_several_threads_one_process_trains_one_after_the_other(
    given, alone, processes_of, tmp_path
):
    who = processes_of()
    torch.set_num_threads(2)
    try:
        with worker_pool(3):
            run = pretrain(**given, out=tmp_path / "run", device="cpu")
    finally:
        torch.set_num_threads(1)
    assert set().union(*map(who, NAMES)) == {os.getpid()}
    lines = read_metrics(run.path / "metrics.jsonl")
    assert [line["stage"] for line in lines] == [
        line["stage"] for line in read_metrics(alone.path / "metrics.jsonl")
    ]


def test_a_run_that_goes_on_on_other_threads_says_that_its_bits_may_differ(
    given, alone, tmp_path, caplog, monkeypatch
):
    monkeypatch.setattr(logging.getLogger("medmcl"), "propagate", True)
    caplog.set_level("INFO")
    shutil.copytree(alone.path, tmp_path / "run")
    torch.set_num_threads(2)
    try:
        pretrain(**given, out=tmp_path / "run", device="cpu", resume=True)
    finally:
        torch.set_num_threads(1)
    assert "begun on 1 of torch's threads and goes on on 2" in caplog.text
    caplog.clear()
    pretrain(**given, out=tmp_path / "run", device="cpu", resume=True)
    assert "threads" not in caplog.text
