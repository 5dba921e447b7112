"""Jobs for Slurm are run by what stands in for its programs here; Ray's as it runs them."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from typed import answer

from benchmarks.faults import toy

PROGRAMS = {
    "srun": """
for ((rank = 0; rank < SLURM_NTASKS; rank++)); do
    SLURM_PROCID=$rank SLURM_LOCALID=$rank "$@" & started+=($!)
done
for one in "${started[@]}"; do wait "$one" || code=$?; done
exit ${code:-0}
""",
    "scontrol": """
if [ "$1" = show ]; then echo localhost; else echo "$@" >> "$HERE/requeued"; fi
""",
    "sbatch": """
if [ -n "${REFUSES:-}" ]; then echo "sbatch: error: invalid partition" >&2; exit 1; fi
cat > "$HERE/job.sh"; echo 4711
""",
}


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in PROGRAMS.items():
        file = programs / name
        file.write_text(f"#!/bin/bash{text}")
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("HERE", str(tmp_path))
    monkeypatch.setenv("SLURM_JOB_ID", str(os.getpid()))
    monkeypatch.setenv("SLURM_JOB_NODELIST", "here")
    return tmp_path


def train(out):
    home = toy.home_once()
    return ["pretrain", "--cohort", home / "cohort", "--recipe", home / "recipe.yaml",
            "--device", "cpu", "--workers", "0", "--out", out]  # fmt: skip


def test_a_job_of_ranks_trains_one_run_and_a_job_that_is_started_again_finds_it_done(
    slurm, monkeypatch
):
    out = slurm / "run"
    told = answer("launch", "--slurm", "--devices", "2", "--", *train(out))
    assert told.stdout == "job: 4711\n", told
    monkeypatch.setenv("SLURM_NTASKS", "2")
    for _ in range(2):
        done = subprocess.run(
            ["bash", slurm / "job.sh"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done
    made = json.loads((out / "provenance.json").read_text())
    assert made["processes"] == 2
    assert not (slurm / "requeued").exists()


def test_a_job_that_saved_on_a_signal_is_queued_again_and_one_that_failed_is_not(
    slurm, monkeypatch
):
    text = answer("launch", "--slurm", "--dry-run", "--", *train(slurm / "run")).stdout
    monkeypatch.setenv("SLURM_NTASKS", "1")
    for code, requeued in ((1, False), (75, True)):
        ends = text.replace(sys.executable, f"bash -c 'exit {code}'")
        done = subprocess.run(["bash"], input=ends, text=True, check=False)
        assert done.returncode == code
        assert (slurm / "requeued").exists() is requeued
    assert (slurm / "requeued").read_text() == f"requeue {os.getpid()}\n"


def test_shards_are_an_array_whose_tasks_make_the_table_of_one_process(slurm, monkeypatch):
    home = toy.home_once()
    words = [
        "embed",
        home / "run",
        "--cohort",
        home / "cohort",
        "--device",
        "cpu",
        "--workers",
        "0",
    ]
    whole = slurm / "whole.parquet"
    assert answer(*words, "--out", whole).returncode == 0
    out = slurm / "shared.parquet"
    text = answer(
        "launch", "--slurm", "--shards", "2", "--dry-run", "--", *words, "--out", out
    ).stdout
    assert "#SBATCH --array=1-2\n" in text
    assert "--gpus" not in text
    (line,) = (line for line in text.splitlines() if line.startswith("srun "))
    _, _, _, _, *typed = line.split()  # srun PYTHON -m medmcl
    for number in (2, 1):
        filled = [one.strip('"').replace("$SLURM_ARRAY_TASK_ID", str(number)) for one in typed]
        assert answer(*filled).returncode == 0
    assert out.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("words", [["check"], ["prepare", "--out", "run"]])
def test_other_commands_that_know_shards_are_an_array_too(words, tmp_path):
    words = ["--dry-run", "--", *words, "--cohort", "demo"]
    text = answer("launch", "--slurm", "--shards", "3", *words, cwd=tmp_path).stdout
    assert "#SBATCH --array=1-3\n" in text
    assert "--gpus" not in text
    assert '--cohort demo --shard "$SLURM_ARRAY_TASK_ID/3"\n' in text
    lines = answer("launch", "--ray", "--shards", "3", *words, cwd=tmp_path).stdout.splitlines()
    assert [line.split()[-1] for line in lines] == ["1/3", "2/3", "3/3"]


def test_a_job_asks_for_a_gpu_a_rank_and_takes_further_options(tmp_path):
    words = [
        "--sbatch=--partition=gpu",
        "--dry-run",
        "--",
        "pretrain",
        "--cohort",
        "demo",
        "--out",
        "a b",
    ]
    text = answer(
        "launch", "--slurm", "--nodes", "3", "--devices", "4", *words, cwd=tmp_path
    ).stdout
    for line in ("--nodes=3", "--ntasks-per-node=4", "--gpus-per-node=4", "--partition=gpu"):
        assert f"#SBATCH {line}\n" in text
    assert f"cd {tmp_path} || exit 1\n" in text
    assert "pretrain --cohort demo --out 'a b' --resume\n" in text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--", "pretrain", "--cohort", "demo", "--out", "a"], "Slurm or on Ray"),
        (["--slurm", "--ray", "--", "recipes"], "Slurm or on Ray"),
        (["--ray", "--sbatch=-p", "--", "recipes"], "--sbatch is of Slurm"),
        (["--slurm", "--", "pretrain", "--cohort", "demo"], "--out is missing"),
        (["--slurm", "--shards", "2", "--", "recipes"], "takes no --shard"),
        (["--slurm", "--nodes", "2", "--", "recipes"], "takes no --devices"),
        (["--slurm", "--", "pretrain", "--cohort", "demo", "--out", "a", "--devices", "2"],
         "--devices is said by"),
        (["--slurm", "--", "embed", "--cohort", "demo", "--out", "a", "--shard", "1/2"],
         "--shard is said by"),
        (["--slurm", "--", "pretrian"], "did you mean 'pretrain'"),
        (["--slurm", "--", "cooccur", "cuont"], "did you mean 'count'"),
        (["--slurm", "--", "pretrain", "--cohort", "demo", "--out", "a", "--seed", "x"], "--seed"),
        (["--slurm", "--dry-run", "--", "pretrain", "--cohort", "hom", "--out", "a"], "hom"),
        (["--slurm", "--dry-run", "--", "pretrain", "--cohort", "demo", "--recipe", "my.yaml",
          "--out", "a"], "my.yaml"),
        (["--slurm", "--dry-run", "--", "pretrain", "--cohort", "demo", "--out", "a",
          "--set", "demo.no_such=1"], "demo.no_such"),
        (["--ray", "--dry-run", "--", "prepare", "--cohort", "hom", "--out", "a"], "hom"),
        (["--slurm", "--dry-run", "--", "evaluate", "r", "--cohort", "hom", "--out", "a"],
         "hom"),
        (["--slurm", "--", "recipes"], "sbatch"),
    ],
)  # fmt: skip
def test_what_cannot_be_launched_is_refused_before_it_is_queued(words, said, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    told = answer("launch", *words)
    assert told.returncode == 2
    assert said in told.stderr


def test_slurms_own_refusal_is_told_with_what_to_add(slurm, monkeypatch):
    monkeypatch.setenv("REFUSES", "1")
    told = answer("launch", "--slurm", "--", "recipes")
    assert told.returncode == 2
    assert "invalid partition" in told.stderr
    assert "--sbatch OPTION" in told.stderr


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("real_ray")
@pytest.mark.filterwarnings("ignore")  # Ray warns of its own settings
def test_on_ray_ranks_make_one_run_and_shards_one_table_and_what_fails_is_told(tmp_path):
    out = tmp_path / "run"
    told = answer("launch", "--ray", "--devices", "2", "--", *train(out))
    assert told.returncode == 0, told
    assert json.loads((out / "provenance.json").read_text())["processes"] == 2
    cohort = toy.home_once() / "cohort"
    words = ["embed", out, "--cohort", cohort, "--device", "cpu", "--workers", "0", "--out"]
    whole, shared = tmp_path / "whole.parquet", tmp_path / "shared.parquet"
    assert answer(*words, whole).returncode == 0
    with ThreadPoolExecutor(1) as beside:
        killed = beside.submit(kill_a_worker)
        assert answer("launch", "--ray", "--shards", "2", "--", *words, shared).returncode == 0
    assert killed.result() > 0
    assert shared.read_bytes() == whole.read_bytes()
    nowhere = [*words[:3], tmp_path / "nowhere", "--out", tmp_path / "t.csv"]
    told = answer("launch", "--ray", "--", *nowhere)  # --device auto: where no GPU is, none
    assert told.returncode == 2
    assert "nowhere" in told.stderr
    told = answer("launch", "--ray", "--devices", "999", "--", *train(tmp_path / "large"))
    assert told.returncode == 2
    assert "expected: 999: one for each process" in told.stderr


def kill_a_worker():
    """Kill the first worker of Ray that does a task and has started its command; give its number.

    What it started ends with it.
    """
    for _ in range(3000):
        for place in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                began = (place / "task" / place.name / "children").read_text().split()
                if began and (place / "cmdline").read_bytes().startswith(b"ray::typed"):
                    os.kill(int(place.name), signal.SIGKILL)
                    for _ in range(100):
                        if not Path("/proc", began[0], "exe").exists():
                            return int(place.name)
                        time.sleep(0.1)
        time.sleep(0.02)
    return 0
