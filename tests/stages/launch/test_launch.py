"""Jobs for Slurm are run by what stands in for its programs here; Ray's as it runs them."""

import json
import os
import signal
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Event

import pytest
from processes import Command, finish
from ray_stub import train_stub
from small_squares import write_squares
from typed import answer

from benchmarks.faults import toy
from medmcl.cooccurrence.count.workers import ray_cluster
from medmcl.core.errors import ArtefactError, ConfigError
from medmcl.stages.launch import job as launching
from medmcl.stages.launch.job import Job

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
    "python": """
env -0 > "$HERE/environment-$RANK"
printf '%s\\0' "$@" > "$HERE/words-$RANK"
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


def started(folder, rank):
    """Words of ``medmcl`` and the environment that a job starts a rank with."""
    words, environment = (
        (folder / f"{name}-{rank}").read_text().rstrip("\0").split("\0")
        for name in ("words", "environment")
    )
    assert words[:2] == ["-m", "medmcl"]
    return words[2:], dict(one.split("=", 1) for one in environment)


def test_a_job_of_ranks_trains_one_run_and_a_job_that_is_started_again_finds_it_done(
    slurm, monkeypatch
):
    out = slurm / "run"
    told = answer("launch", "--slurm", "--devices", "2", "--", *train(out))
    assert told.stdout == "job: 4711\n", told
    monkeypatch.setenv("SLURM_NTASKS", "2")
    job = (slurm / "job.sh").read_text().replace(sys.executable, "python")
    for _ in range(2):
        subprocess.run(["bash"], input=job, text=True, check=True)
        for rank in [Command(*started(slurm, number)) for number in "01"]:
            finish(rank)
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


ON_RAY = pytest.mark.filterwarnings("ignore")  # Ray warns of its own settings


@pytest.fixture(scope="module")
def cluster(real_ray):
    """One cluster for all that is launched; a start takes seconds, beside other work a minute.

    Gives the register of its workers.
    """
    with ray_cluster():
        yield os.environ["MEDMCL_REGISTER"]


def files_of(folder):
    """What the files of a folder hold, by name."""
    return {file.name: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@ON_RAY
@pytest.mark.usefixtures("real_ray")
def test_a_count_on_ray_is_that_of_one_process_and_stops_the_cluster_it_started(tmp_path):
    from ray import is_initialized

    words = ["cooccur", "count", toy.home_once() / "ehr.yaml", "--out"]
    assert answer(*words, tmp_path / "whole").returncode == 0
    assert answer(*words, tmp_path / "mapped", "--ray").returncode == 0
    assert not is_initialized()
    assert files_of(tmp_path / "mapped") == files_of(tmp_path / "whole") != {}


def test_without_ray_its_stand_in_is_given_every_shard_and_every_rank(monkeypatch, tmp_path):
    """What is typed where, in place of `test_ranks_on_ray_...`, which needs Ray."""
    stub, ran = train_stub(monkeypatch), []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launching, "typed", lambda *given: ran.append(given))
    words, given = ["prepare", "--out", "r"], {"out": Path("r"), "shard": None}
    launching.run(Job(words=words, given=given, shards=3))
    assert [one[0][-2:] for one in ran] == [["--shard", f"{n}/3"] for n in (1, 2, 3)]
    assert {folder for _, folder in ran} == {str(tmp_path)}
    assert stub.said[0] == "init"
    assert stub.said[-1] == "shutdown"
    ran.clear()
    stub.said.clear()
    trained = {"out": Path("r"), "devices": 1, "resume": False, "device": "auto"}
    launching.run(Job(words=["pretrain", "--out", "r"], given=trained, devices=2))
    around = sorted((one[2] for one in ran), key=lambda one: one["RANK"])
    assert [one["RANK"] + one["LOCAL_RANK"] + one["WORLD_SIZE"] for one in around] == ["002", "112"]
    assert around[0]["MASTER_PORT"] == around[1]["MASTER_PORT"]
    assert all(one[0][-1] == "--resume" for one in ran)
    stub.said.clear()
    stub.cpus = 1.0
    with pytest.raises(ConfigError, match=r"too small(?s:.)*1 CPU(?s:.)*2: one for each"):
        launching.run(Job(words=["pretrain"], given=trained, devices=2))


def test_what_a_worker_types_is_passed_on_and_its_end_is_told(capfd, tmp_path):
    launching.typed([sys.executable, "-m", "medmcl", "cohorts"], str(tmp_path))
    assert "ptbxl" in capfd.readouterr().out
    with pytest.raises(
        ArtefactError, match=r"exit code 2 of `medmcl cohort`(?s:.)*no command 'cohort'"
    ):
        launching.typed([sys.executable, "-m", "medmcl", "cohort"], str(tmp_path))


@ON_RAY
def test_shards_of_prepare_and_count_on_ray_make_the_bytes_of_one_process(
    cluster, tmp_path, monkeypatch
):
    monkeypatch.setenv("MEDMCL_REGISTER", cluster)  # its key names people in counts
    home = toy.home_once()
    inputs = ["--cohort", home / "cohort", "--recipe", home / "recipe.yaml", "--workers", "0"]
    prepare = ["prepare", *inputs, "--out"]
    count = ["cooccur", "count", home / "ehr.yaml", "--out"]
    for words, out, made in ((prepare, "run", ".prepared"), (count, "n", "n")):
        found = []
        for name, asked in (("one", []), ("ray", ["launch", "--ray", "--shards", "2", "--"])):
            told = answer(*asked, *words, tmp_path / name / out)
            assert told.returncode == 0, told
            found.append(files_of(tmp_path / name / made))
        assert found[0] == found[1] != {}


@ON_RAY
@pytest.mark.usefixtures("cluster")
def test_shards_of_check_on_ray_find_what_one_process_finds(tmp_path):
    cohort = write_squares(tmp_path / "cohort", people=36, side=16)
    (cohort / "images" / "s0003.png").write_bytes(b"no picture")
    words = ["check", "--cohort", cohort, "--workers", "0"]
    ray, here = tmp_path / "ray", tmp_path / "here"
    for folder in (ray, here):
        folder.mkdir()
    told = answer("launch", "--ray", "--shards", "2", "--", *words, cwd=ray)
    assert told.returncode == 2
    assert "1 error" in told.stderr
    assert list(ray.glob("runs/.prepared/*.parts/*"))  # what was found of each record
    lines = [
        [one for one in answer(*words, cwd=folder).stdout.splitlines() if "[00:" not in one]
        for folder in (ray, here)
    ]
    assert lines[0] == lines[1]
    assert any("s0003.png" in line for line in lines[0])


@ON_RAY
@pytest.mark.usefixtures("cluster")
def test_ranks_on_ray_make_one_run_and_shards_one_table_though_a_worker_is_killed(tmp_path):
    out = tmp_path / "run"
    told = answer("launch", "--ray", "--devices", "2", "--", *train(out))
    assert told.returncode == 0, told
    assert json.loads((out / "provenance.json").read_text())["processes"] == 2
    cohort = toy.home_once() / "cohort"
    words = ["embed", out, "--cohort", cohort, "--device", "cpu", "--workers", "0", "--out"]
    whole, shared = tmp_path / "whole.parquet", tmp_path / "shared.parquet"
    assert answer(*words, whole).returncode == 0
    over = Event()
    with ThreadPoolExecutor(1) as beside:
        killed = beside.submit(kill_a_worker, over)
        told = answer("launch", "--ray", "--shards", "2", "--", *words, shared)
        over.set()
    assert told.returncode == 0, told
    assert killed.result() > 0
    assert shared.read_bytes() == whole.read_bytes()


@ON_RAY
@pytest.mark.usefixtures("cluster")
def test_what_fails_on_ray_is_told(tmp_path):
    nowhere = ["embed", tmp_path / "nowhere", "--cohort", toy.home_once() / "cohort"]
    told = answer("launch", "--ray", "--", *nowhere, "--out", tmp_path / "t.csv")
    assert told.returncode == 2  # --device auto: where no GPU is, none
    assert "nowhere" in told.stderr
    told = answer("launch", "--ray", "--devices", "999", "--", *train(tmp_path / "large"))
    assert told.returncode == 2
    assert "expected: 999: one for each process" in told.stderr


def kill_a_worker(over):
    """Kill the first worker of Ray that does a task and has started its command; give its number.

    What it started ends with it. Nobody is killed where the tasks are over before.
    """
    while not over.wait(0.02):
        for place in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                began = (place / "task" / place.name / "children").read_text().split()
                if began and (place / "cmdline").read_bytes().startswith(b"ray::typed"):
                    os.kill(int(place.name), signal.SIGKILL)
                    while Path("/proc", began[0], "exe").exists() and not over.wait(0.1):
                        pass
                    return int(place.name)
    return 0
