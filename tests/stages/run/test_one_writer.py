"""One writer a run folder; a run killed at any write is gone on with, to the same numbers."""

import json
import os
import select
import signal
import time
from pathlib import Path

import pytest
import torch
import yaml
from killed import forked
from processes import Command
from typed import answer

import medmcl
from benchmarks.evaluation.memorised_pairs import (
    QUICK_RESULTS,
    memorising,
    write_recipe,
    write_told,
)
from medmcl.core import file_lock
from medmcl.core.errors import ArtefactError, ConfigError
from medmcl.core.file_lock import claimed
from medmcl.stages.cooccur.embed import embed
from medmcl.stages.cooccur.evaluate import evaluate as cooccur_evaluate

WRITES = ("run", "config.yaml", "labs.npy", "step-00000002", "done.json", "report.html")
"""What it was about to make, first the folder itself."""


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """A cohort, and a recipe of four steps and one probe on it."""
    home = tmp_path_factory.mktemp("short")
    tree = memorising(4, QUICK_RESULTS, binds=False)
    tree["stages"][0]["evaluate_every"] = 2
    return write_told(home / "cohort", 0), write_recipe(home / "recipe.yaml", tree)


def pretraining(short, out, **more):
    """The run, to be done in a fork; what it says is the exit code."""
    cohort, recipe = short

    def run():
        torch.set_num_threads(1)
        medmcl.pretrain(cohort, recipe=recipe, out=out, device="cpu", **more)

    return run


@pytest.fixture(scope="module")
def whole(short, tmp_path_factory):
    """A run that nothing disturbed."""
    home = tmp_path_factory.mktemp("whole")
    status, writes = forked(pretraining(short, home / "run"), home)
    assert status == 0
    assert writes > 100
    return home / "run"


@pytest.fixture(scope="module")
def undisturbed(whole):
    return (whole / "results.csv").read_text()


@pytest.mark.parametrize("write", WRITES)
def test_a_run_killed_at_a_write_is_gone_on_with(write, short, undisturbed, tmp_path):
    out = tmp_path / "run"
    assert forked(pretraining(short, out), tmp_path, at=write)[0] == -signal.SIGKILL
    assert forked(pretraining(short, out, resume=True), tmp_path)[0] == 0
    assert (out / "results.csv").read_text() == undisturbed
    assert not list(out.rglob(".*"))


def test_what_was_killed_before_it_was_a_run_can_be_begun_again(short, undisturbed, tmp_path):
    out = tmp_path / "run"
    assert forked(pretraining(short, out), tmp_path, at="config.yaml")[0] == -signal.SIGKILL
    assert list(out.iterdir())
    assert forked(pretraining(short, out), tmp_path)[0] == 0
    assert (out / "results.csv").read_text() == undisturbed


@pytest.mark.parametrize("resume", [False, True])
def test_nobody_enters_the_folder_of_a_run_that_lives(resume, short, tmp_path):
    cohort, recipe = short
    out = tmp_path / "run"
    words = ["pretrain", "--cohort", cohort, "--recipe", recipe, "--out", out]
    first = Command([*words, "--set", "stages.contrast.steps=100000"])
    try:
        deadline = time.monotonic() + 120
        while not (out / "config.yaml").exists() and time.monotonic() < deadline:
            assert first.poll() is None, first.communicate()
            time.sleep(0.1)
        before = (out / "config.yaml").read_bytes()
        with pytest.raises(ArtefactError, match=rf"being made(.|\n)*process {first.pid} on"):
            pretraining(short, out, resume=resume)()
        assert (out / "config.yaml").read_bytes() == before
    finally:
        first.kill()
        first.communicate()


@pytest.mark.parametrize("round_", range(2))
def test_of_two_that_begin_at_once_one_makes_the_run(round_, short, tmp_path):
    """Either seed may win; the other is refused, and what lies there is the winner's alone."""
    out, go = tmp_path / "run", tmp_path / "go"
    racers = {}
    for seed in (round_, round_ + 100):
        if not (child := os.fork()):
            code = 1
            try:
                while not go.exists():
                    pass
                pretraining(short, out, seed=seed)()
                code = 0
            except ArtefactError as error:
                code = 2 if "being made" in str(error) or "is a run" in str(error) else 1
            finally:
                os._exit(code)
        racers[child] = seed
    go.touch()
    ended = {racers[one]: os.waitstatus_to_exitcode(os.waitpid(one, 0)[1]) for one in racers}
    assert sorted(ended.values()) == [0, 2]
    winner = next(seed for seed, code in ended.items() if code == 0)
    assert yaml.safe_load((out / "config.yaml").read_text())["seed"] == winner
    provenance = json.loads((out / "provenance.json").read_text())
    assert provenance["seed"] == winner
    assert not list(out.rglob(".*"))


def test_a_refused_run_leaves_no_folder(short, tmp_path):
    cohort, _ = short
    with pytest.raises(ConfigError, match="reads 'ecg', which the cohort does not"):
        medmcl.pretrain(cohort, recipe="ecg_scratch_toy", out=tmp_path / "run")
    other = tmp_path / "other.npz"
    with pytest.raises(ArtefactError, match="not a run folder"):
        medmcl.pretrain(short[0], recipe=short[1], out=tmp_path / "run", reuse=other)
    assert not list(tmp_path.iterdir())


ON_RUN = "{run} --cohort {cohort}"
WRITERS = {
    "evaluate": (f"evaluate {ON_RUN} --out", "folder/"),
    "evaluate of vectors": ("evaluate --embeddings {table} --cohort {cohort} --out", "folder/"),
    "predictions": (f"evaluate {ON_RUN} --out {{run}}/other --predictions", "table.csv"),
    "embed": (f"embed {ON_RUN} --out", "table.csv"),
    "predict": (f"predict {ON_RUN} --out", "table.csv"),
    "select": (f"select {ON_RUN} --out", "keep.parquet"),
    "screen": (f"check --screen {ON_RUN} --out", "folder/"),
    "poison": ("poison --cohort {cohort} --out", "folder/"),
    "simulate": ("simulate shapes --out", "folder"),
    "shards": ("shards --cohort {cohort} --out", "folder"),
    "count": ("cooccur count {spec} --out", "folder"),
    "to-meds": ("cooccur to-meds {table}.yaml --out", "folder"),
    "rows": ("cooccur rows {spec} --out", "table.csv"),
    "merge": ("cooccur merge {run} {run} --out", "folder"),
    "release": ("cooccur release {run} --out", "folder"),
    "release-private": ("cooccur release-private {table} --vocabulary {table} --epsilon 1 "
                        "--delta 1e-6 --ledger {table} --clip codes=1 --out", "folder"),
    "secure-start": ("cooccur secure-start {run} --site a --site b --site c --out",
                     "folder"),
    "secure-share": ("cooccur secure-share {run} --keys {table} --round {run} --out",
                     "share"),
    "secure-sum": ("cooccur secure-sum {table} --round {run} --out", "folder"),
    "merge-embeddings": ("cooccur merge-embeddings {run} {run} --out", "folder"),
}  # fmt: skip
"""What a command is given before its output, and that; a folder that is filled ends in ``/``."""


@pytest.fixture(scope="module")
def given(short, whole, tmp_path_factory):
    """What a command reads; tables and specs are looked at only after the output is claimed."""
    home = tmp_path_factory.mktemp("given")
    tree = {"schema": "medmcl/cooccurrence@1", "sources": [{"kind": "meds", "path": "."}],
            "modalities": {"codes": {"prefix": "CODE//"}}, "within": True}  # fmt: skip
    (home / "spec.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    (home / "table.csv").write_text("subject,e0\n", encoding="utf-8")
    tree["sources"] = [{"kind": "table", "path": "table.csv", "subject": "subject", "code": "e0"}]
    (home / "table.csv.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    return {"run": whole, "cohort": short[0], "spec": home / "spec.yaml",
            "table": home / "table.csv"}  # fmt: skip


@pytest.mark.parametrize("name", WRITERS)
def test_whatever_is_written_has_one_writer(name, given, tmp_path):
    words, out = WRITERS[name]
    filled, out = out.endswith("/"), tmp_path / out
    with claimed(out, "by this test", filled=filled):
        before = sorted(tmp_path.rglob("*"))
        done = answer(*words.format(**given).split(), out)
        assert done.returncode == 2, done.stderr
        assert f"process {os.getpid()} on" in done.stderr, done.stderr
        assert sorted(tmp_path.rglob("*")) == before
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("make", "filled"), [(embed, False), (cooccur_evaluate, True)])
def test_so_have_vectors_of_codes_and_their_evaluation(make, filled, tmp_path):
    refused = pytest.raises(ArtefactError, match=f"process {os.getpid()} on")
    with claimed(tmp_path / "out", "by this test", filled=filled), refused:
        make(None, tmp_path / "out")


def together(run, count=2):
    """Exit codes of forks that begin at the same time, and what they said."""
    started = []
    gate, opened = os.pipe()
    for _ in range(count):
        reads, writes = os.pipe()
        process = os.fork()
        if not process:
            code = 1
            try:
                os.close(opened)
                os.read(gate, 1)  # ends when the parent closes its end
                done = run()
                code = done.returncode
                os.write(writes, (done.stdout + done.stderr).encode())
            finally:
                os._exit(code)
        os.close(writes)
        started.append((process, reads))
    os.close(gate)
    os.close(opened)
    found = []
    for process, reads in started:
        with os.fdopen(reads) as said:
            text = said.read()
        found.append((os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), text))
    return sorted(found)


@pytest.mark.parametrize(
    ("name", "read"), [("embed", ""), ("evaluate", "results.csv"), ("simulate", "participants.tsv")]
)
def test_of_two_at_once_one_writes_what_one_alone_would(name, read, given, tmp_path, monkeypatch):
    words, out = WRITERS[name]
    words = words.format(**given).split()
    assert answer(*words, tmp_path / "alone" / out).returncode == 0
    take, (came, tell) = file_lock._take, os.pipe()

    def met(lock, file, harmless):
        """Whoever is first goes on when the second has come, however slow that one is."""
        taken = take(lock, file, harmless)
        if tmp_path / "both" in file.parents:
            if taken[0]:
                select.select([came], [], [], 20)
            elif taken[1]:  # it knows by whom it is refused
                os.write(tell, b"x")
        return taken

    monkeypatch.setattr(file_lock, "_take", met)
    done, refused = together(lambda: answer(*words, tmp_path / "both" / out))
    assert (done[0], refused[0]) == (0, 2), (done, refused)
    assert "process " in refused[1], refused
    paths = [tmp_path / place / out / read for place in ("alone", "both")]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert not [one for one in tmp_path.rglob(".*") if not one.name.endswith(".prepared")]


def test_a_report_that_is_being_written_is_not_written_over(given, tmp_path):
    words, out = WRITERS["evaluate"]
    words = [*words.format(**given).split(), tmp_path / out, "--overwrite"]
    assert answer(*words).returncode == 0
    before = (tmp_path / out / "results.csv").read_bytes()
    with claimed(tmp_path / out, "by this test", filled=True):
        assert answer(*words).returncode == 2
    assert (tmp_path / out / "results.csv").read_bytes() == before
    assert answer(*words).returncode == 0


@pytest.mark.parametrize(
    ("name", "write", "page"),
    [("evaluate", "flow.csv", "report.html"), ("screen", "suspects.csv", "suspects.html"),
     ("select", "keep.parquet", "../keep.html")],
)  # fmt: skip
def test_a_command_that_was_killed_as_it_wrote_over_another_leaves_no_page(
    name, write, page, given, tmp_path
):
    """The page of before stood beside numbers of which some were of before, and some were new."""
    words, out = WRITERS[name]
    words = [*words.format(**given).split(), tmp_path / out]
    page = Path(os.path.normpath(tmp_path / out / page))
    assert answer(*words).returncode == 0
    assert page.is_file()
    words.append("--overwrite")
    killed, _ = forked(lambda: answer(*words).returncode, tmp_path, at=write)
    assert killed == -signal.SIGKILL
    assert not page.exists()
    assert answer(*words).returncode == 0
    assert page.is_file()
