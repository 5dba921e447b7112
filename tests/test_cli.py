import json
import os
import re
import shutil
import signal
import subprocess
import sys
from typing import get_args

import numpy as np
import pandas as pd
import pytest
from tiny_runs import tiny
from typed import answer

from medmcl import __version__
from medmcl.core.errors import ENDED, CohortError, OverrideError
from medmcl.core.overrides import parse_overrides
from medmcl.simulation.kinds import SIMULATORS, simulate
from medmcl.stages.evaluate.spec import Resample
from medmcl.stages.evaluate.task_scoring import ProbeMode
from medmcl.stages.recipe.settings import evaluate_overrides, refuse_settings, with_settings
from medmcl.threats.detectors import DETECTORS

COMMANDS = (
    "pretrain", "evaluate", "embed", "check", "simulate", "shards", "recipes", "cohorts", "cooccur",
    "poison", "predict",
)  # fmt: skip


def settings(recipe):
    words = []
    for key, value in {**tiny(recipe), "stages.results.tasks": ["lvef"]}.items():
        words += ["--set", f"{key}={json.dumps(value)}"]
    return words


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli") / "hearts"
    return simulate("heart", folder, {"subjects": 80, "form": "shards"})


def test_the_version_is_told():
    words = [sys.executable, "-m", "medmcl", "--version"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"medmcl {__version__}\n")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of typer, in click
def test_a_command_passes_what_it_was_given_and_nothing_is_lost():
    from medmcl.cli.command import called

    def work(out, seed=3):
        return out, seed

    given = {"out": 1, "seed": None, "set_": ["a=b"]}
    assert called(work, given, ("set_",)) == (1, 3)
    assert called(work, given, ("set_",), seed=4) == (1, 4)
    with pytest.raises(TypeError, match="takes no set_"):
        called(work, given | {"set_": None})


def test_help_promises_no_override_that_a_command_refuses():
    for command, reads_recipe in (("pretrain", True), ("evaluate", False), ("embed", False)):
        shown = " ".join(answer(command, "--help").stdout.split())
        assert "cohort.on_bad_record=exclude" in shown
        assert ("stages.NAME.epochs=5" in shown) is reads_recipe, command


SHOWN = re.compile(r"(?:evaluate|cohort|stages)\.[\w.]+=(?:'[^']*'|[\w/]+)|data_root=[\w/]+")


@pytest.mark.parametrize("command", ["evaluate", "predict", "check"])
def test_every_override_that_help_shows_is_taken(command):
    shown = " ".join(answer(command, "--help").stdout.split())
    examples = parse_overrides(
        one.replace("NAME", "simclr").replace("'", "") for one in SHOWN.findall(shown)
    )
    assert len(examples) >= 2
    own, _ = evaluate_overrides({k: v for k, v in examples.items() if k.startswith("evaluate.")})
    folds = {"evaluate.folds": "5 x 1"}  # `refit: all` is said beside folds
    for key, value in own.items():
        spec = with_settings({"stage": "evaluate", "covariates": None}, {**folds, key: value})
        assert getattr(spec, key.removeprefix("evaluate.")) == value
    rest = {key: value for key, value in examples.items() if key not in own}
    refuse_settings("ptbxl", "ecg_simclr" if command == "check" else None, rest)


def test_every_value_that_help_shows_is_one():
    shown = {
        command: " ".join(answer(command, "--help").stdout.split())
        for command in ("evaluate", "predict", "check")
    }
    from medmcl.cli.command import fractions_of
    from medmcl.cli.main import _probe  # typer's own warnings are passed over by now
    from medmcl.cli.predict import _pairs

    assert fractions_of("0.01,0.1,1") == (0.01, 0.1, 1.0)
    assert "for example 0.01,0.1,1," in shown["evaluate"]
    for name in get_args(ProbeMode):
        assert f"{name}:" in shown["evaluate"]
        assert _probe(name) == name
    drawn = shown["evaluate"].split("What the bootstrap draws: ")[1].split(";")[0]
    assert all(name in drawn for name in get_args(Resample))
    files = re.findall(r"(?<=[ (])(\w+=[\w.]+)(?=[ ,)])", shown["predict"])
    assert {"ecg=a.hea", "cmr=b.nii.gz", "clinic=c.csv", "age=63"} <= set(files)
    assert len(_pairs("--record", files, "")) == len(files)
    listed = shown["check"].split("--detector TEXT ")[1].split(":")[0]
    assert {*re.findall(r"\w+", listed)} - {"or"} == set(DETECTORS)


@pytest.mark.parametrize("reads_recipe", [True, False])
def test_the_mend_of_an_override_of_the_recipe_is_taken(cohort, reads_recipe):
    """`recipe.stages...` was answered with `cohort.recipe.stages...`, which nothing takes."""
    given = {"recipe.stages.results.draws": 1}
    with pytest.raises(OverrideError) as found:
        refuse_settings(cohort, None, given, reads_recipe=reads_recipe)
    assert "cohort.recipe" not in str(found.value)
    if reads_recipe:
        refuse_settings(cohort, None, {found.value.fix.split()[-1].partition("=")[0]: 1})
    else:
        assert "leave it out" in found.value.fix


def test_the_kinds_of_simulation_are_listed():
    shown = " ".join(answer("simulate", "--help").stdout.split())
    assert " ".join(answer("embed", "--help").stdout.split()).count("[RUN] Run folder;") == 1
    for kind in SIMULATORS:
        assert f"{kind}:" in shown
    assert "docs/cohort.md" in shown


def test_what_ships_is_listed_with_what_is_needed_and_what_is_only_a_template():
    shown = {list_: answer(list_).stdout.splitlines() for list_ in ("recipes", "cohorts")}

    def lines(list_, name):
        row = next(n for n, line in enumerate(shown[list_]) if line.startswith(f"{name} "))
        return "\n".join(shown[list_][row : row + 2])

    assert lines("recipes", "ecg_cmr_toy")
    assert "needs: ecg, report (text)" in lines("recipes", "ecg_text")
    assert "template" in lines("cohorts", "my_cohort")
    assert "recipe: ecg_cmr_toy" in lines("cohorts", "demo")
    assert all(lines("cohorts", name) for name in ("ptbxl", "acdc", "ukb_cardiac"))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_without_stray_backslashes(command):
    assert command in answer("--help").stdout
    done = answer(command, "--help")
    assert done.returncode == 0
    assert "\\" not in done.stdout


def test_from_simulation_to_embeddings(tmp_path):
    made = answer(
        "simulate", "heart", "--subjects", 60, "--out", tmp_path / "h", "--set", "form=shards"
    )
    assert made.returncode == 0, made.stderr
    out = tmp_path / "run"
    words = ["--cohort", tmp_path / "h", "--recipe", "ecg_mdm_toy", "--out", out]
    done = answer("pretrain", *words, "--device", "cpu", *settings("ecg_mdm_toy"))
    assert done.returncode == 0, done.stderr
    where, *answers = done.stdout[done.stdout.index("report: ") :].splitlines()
    assert where.endswith("report.html")
    said = json.loads((out / "report.json").read_text())["headline"]
    assert 0 < len(answers) < 10
    against = next((line for line in said if line.startswith("Against what: lvef: ")), None)
    assert against is not None
    assert f"Against what: {answers.pop().strip()}" == against
    assert all(f"How well: {line.strip()}" in said for line in answers[:8])
    done = answer("embed", out, "--cohort", tmp_path / "h", "--out", tmp_path / "e.parquet")
    assert done.returncode == 0, done.stderr
    table = pd.read_parquet(tmp_path / "e.parquet")
    assert list(table.columns[:3]) == ["subject", "record", "quality"]
    assert len(table) == 60
    done = answer("embed", out, "--cohort", tmp_path / "h", "--out", tmp_path / "e.csv")
    assert done.returncode == 0, done.stderr
    written = pd.read_csv(tmp_path / "e.csv", dtype={"subject": str, "record": str})
    pd.testing.assert_frame_equal(written, table, check_dtype=False, rtol=1e-6)
    done = answer(
        "evaluate", out, "--cohort", tmp_path / "h", "--task", "lvef", "--label-fraction", "0.5,1",
        "--out", tmp_path / "scored",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "scored" / "report.html").exists()
    for words in (["evaluate", out, "--out", tmp_path / "scored"],
                  ["embed", out, "--out", tmp_path / "e.parquet"]):  # fmt: skip
        again = answer(*words, "--cohort", tmp_path / "h")
        assert again.returncode == 2
        assert "--overwrite" in again.stderr
    lost = answer("evaluate", out, "--cohort", tmp_path / "h", "--set", "on_bad_record=exclude")
    assert lost.returncode == 2
    assert "--set cohort.on_bad_record=" in lost.stderr
    words = ["--cohort", tmp_path / "h", "--out", tmp_path / "f.parquet", "--set", "a.b=3"]
    assert answer("embed", out, *words).returncode == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pretrain", "--cohort", "{cohort}", "--set", "cohort.subject.id=x"], "did you mean"),
        (["pretrain", "--cohort", "{cohort}", "--device", "gpu"], "cpu"),
        (["pretrain", "--cohort", "{cohort}", "--precision", "fp8"], "bf16"),
        (["pretrain", "--cohort", "{cohort}", "--resume"], "--out"),
        (
            ["embed", "nowhere", "--cohort", "{cohort}", "--out", "x.xlsx"],
            "expected: .parquet, .csv, .tsv",
        ),
        (["check", "."], "medmcl check --cohort ."),
        (["check"], "--cohort is missing"),
        (["check", "--cohort", "{cohort}", "--top", "5"], "means nothing without --screen"),
        (["check", "--cohort", "{cohort}", "--k", "5", "--overwrite"], "--k, --overwrite"),
        (
            ["poison", "--cohort", "{cohort}", "--recipe", "ecg_mdm_toy", "--out", "x"],
            "the recipe has no poison stage",
        ),
        (["evaluate", "--cohort", "{cohort}"], "give a run or embeddings"),
        (["check", "--cohort", "{cohort}", "--set", "data_rot=x"], "--set data_rot=x: unknown"),
        (["pretrain", "--cohort", "{cohort}", "--devices", "0"], "--devices"),
        (["pretrain", "--cohort", "{cohort}", "--out", "{cohort}"], "not empty"),
        (["pretrain", "--cohort", "{cohort}", "--out", "{cohort}/cohort.yaml"], "not a folder"),
        (["pretrain", "--cohort", "{cohort}", "--out", "{cohort}/cohort.yaml/x"], "not a folder"),
        (["evaluate", "{cohort}", "--cohort", "{cohort}"], "not a run folder"),
        (["evaluate", "x", "--cohort", "x", "--label-fraction", "10"], "10 percent is 0.1"),
        (["evaluate", "x", "--cohort", "x", "--label-fraction", "0.1;1"], "commas"),
        (["simulate", "heart", "--out", "/proc/x"], "cannot be written"),
    ],
)
def test_a_users_mistake_is_one_message_and_exit_code_2(words, said, cohort, tmp_path):
    done = answer(*[word.format(cohort=cohort) for word in words], cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("runs/*/config.yaml"))


def test_a_section_taken_out_by_null_is_no_mistake(cohort):
    overrides = {"cohort.tasks.lvef": None, "stages.mdm.epochs": 2}
    refuse_settings(str(cohort), "ecg_cmr_toy", overrides)
    with pytest.raises(OverrideError, match="did you mean 'epochs'"):
        refuse_settings(str(cohort), "ecg_cmr_toy", {"stages.mdm.epoch": 2})


def test_a_missing_recipe_has_one_fix(cohort, tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    text = (cohort / "cohort.yaml").read_text().replace("ecg_cmr_toy", "ecg_cmr_tooy")
    (copy / "cohort.yaml").write_text(text)
    done = answer("check", "--cohort", copy, "--set", f"data_root={cohort}")
    block = done.stdout.partition("error recipe\n")[2].partition("looked at")[0]
    assert "did you mean 'ecg_cmr_toy'?" in block
    assert block.partition("warning")[0].count("to fix") == 1


@pytest.mark.parametrize("told", ["as it is", "as C tells it"])
def test_ctrl_c_before_there_is_a_run_is_one_line(told, tmp_path, monkeypatch):
    def pressed(*args, **options):
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt:
            if told == "as it is":
                raise
        raise CohortError("cannot be read as a table")

    (tmp_path / "cohort.yaml").write_text("{}")
    monkeypatch.setattr("medmcl.stages.recipe.inspect.check", pressed)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job may ignore it
    try:
        done = answer("check", "--cohort", tmp_path)
    finally:
        signal.signal(signal.SIGINT, before)
        ENDED.clear()
    assert done.returncode == 130
    assert done.stderr == "\nstopped by Ctrl-C\n"


def test_check_names_every_fault_at_once_and_exits_with_2(cohort, tmp_path):
    sound = answer("check", "--cohort", cohort)
    assert sound.returncode == 0
    first, second = sound.stdout.splitlines()[:2]
    assert first.endswith(f"] reading the tables of {cohort}")
    assert second.endswith(
        "] cohort hearts: 80 subjects; reading 80 ecg records, 80 cmr records, 80 clinic records"
    )
    copy = tmp_path / "spoilt"
    shutil.copytree(cohort, copy)
    array = np.load(copy / "shards" / "ecg.npy")
    array[0] = np.nan
    array[1] = 0
    array[2] = np.clip(array[2] * 1000, -6e4, 6e4)
    array[4] = array[3]
    np.save(copy / "shards" / "ecg.npy", array)
    table = pd.read_csv(copy / "participants.tsv", sep="\t")
    table.loc[0, "hf_days"] = -3
    table["infarct"] = 0
    twice = table.iloc[[7]].assign(
        split="held_out" if table.loc[7, "split"] != "held_out" else "train"
    )
    pd.concat([table, twice]).to_csv(copy / "participants.tsv", sep="\t", index=False)
    done = answer("check", "--cohort", copy)
    assert done.returncode == 2
    for code in (
        "ecg.nan",
        "ecg.flat",
        "ecg.wrong_units",
        "task.one_class",
        "task.negative_time",
        "split",
    ):
        assert code in done.stdout, code
    assert "duplicate" in done.stdout
    assert "to fix" in done.stdout


def test_three_mistakes_of_the_file_and_a_truncated_record_come_in_one_check(tmp_path):
    made = answer("simulate", "heart", "--subjects", 8, "--out", tmp_path / "h")
    assert made.returncode == 0, made.stderr
    file = tmp_path / "h" / "cohort.yaml"
    text = file.read_text()
    for right, wrong in (
        ("reader: nifti", "reader: nfti"),
        ("kind: survival", "kind: survial"),
        ("schema: medmcl/cohort@1", "schema: medmcl/cohort@9"),
    ):
        assert right in text
        text = text.replace(right, wrong)
    file.write_text(text)
    record = sorted((tmp_path / "h" / "ecg").glob("*.dat"))[0]
    record.write_bytes(record.read_bytes()[:500])
    done = answer("check", "--cohort", tmp_path / "h")
    assert done.returncode == 2, done.stderr
    for words in ("'nfti'", "'survial'", "'schema'", "ecg.unreadable", record.name, "4 errors"):
        assert words in done.stdout, words


def test_a_bug_of_ours_is_exit_code_1_with_its_traceback(tmp_path):
    code = (
        "import medmcl.cli.main, medmcl.stages.recipe.file as r\n"
        "r.list_recipes = lambda: 1 / 0\n"
        "import sys; sys.argv = ['medmcl', 'recipes']; medmcl.cli.main.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr


@pytest.mark.parametrize(
    "raised",
    [
        MemoryError("Unable to allocate 1.49 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
    ids=["numpy", "torch"],
)
def test_memory_that_ran_out_is_told_in_words(monkeypatch, raised):
    def fails(*_, **__):
        raise raised

    monkeypatch.setattr("medmcl.stages.recipe.inspect.check", fails)
    said = answer("check", "--cohort", "demo")
    assert said.returncode == 1
    assert said.stderr.startswith("error: memory ran out")
    assert "allocate" in said.stderr
    assert "batch_size" in said.stderr


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ("towers.ecg.encoder.depth=1000000", "depth"),
        ("inputs.cmr.size=1000000000", "size"),
        ("inputs.ecg.rate_hz=1000000000", "rate_hz"),
    ],
)
def test_a_size_that_would_be_built_for_hours_is_refused_at_once(tmp_path, given, key):
    simulate("heart", tmp_path / "c", {"subjects": 20})
    said = answer("check", "--cohort", tmp_path / "c", "--recipe", "ecg_cmr_toy", "--set", given)
    assert said.returncode == 2
    told = next(line for line in said.stdout.splitlines() if "a number of at most" in line)
    assert key in told
