"""What is started on a cluster: one command, as ranks of one run or as shards; Slurm, or Ray."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medmcl.core.errors import (
    ArtefactError,
    ConfigError,
    MedmclError,
)
from medmcl.core.findings import counted
from medmcl.core.lazy import import_extra
from medmcl.engine.signals import EXIT_CODE


@dataclass(frozen=True, kw_only=True)
class Job:
    """A command and how many processes share it.

    Attributes:
        words: The command line after ``medmcl``.
        given: Every parameter that the command takes, by name, and its value.
        nodes: Machines.
        devices: Processes on each machine, one device each.
        shards: Processes that each make a share of what is written, and know nothing of one
            another.

    Raises:
        ConfigError: The command cannot be shared so, or does not say where it writes.
    """

    words: Sequence[str]
    given: Mapping[str, Any]
    nodes: int = 1
    devices: int = 1
    shards: int = 1

    def __post_init__(self) -> None:
        self._refuse("shard", self.shards, "--shards", unset=None)
        self._refuse("devices", self.ranks, "--nodes and --devices", unset=1)
        if self.shards == 1 and "out" in self.given and self.given["out"] is None:
            raise ConfigError(
                "--out is missing: all processes write the same, and so does a job that goes on",
                where=self.command,
                fix="add --out PATH",
            )

    def _refuse(self, name: str, count: int, asked: str, unset: Any) -> None:
        if count > 1 and name not in self.given:
            raise ConfigError(
                f"takes no --{name}, so {count} processes cannot share it",
                where=self.command,
                fix=f"leave out {asked}",
            )
        if self.given.get(name, unset) != unset:
            raise ConfigError(
                f"--{name} is said by `medmcl launch`",
                where=self.command,
                got=f"--{name} {self.given[name]}",
                fix=f"leave it out, and say {asked} before --",
            )

    @property
    def command(self) -> str:
        """The command, as errors call it."""
        return f"medmcl {self.words[0]}"

    @property
    def name(self) -> str:
        """What queues call it."""
        return f"medmcl-{self.words[0]}"

    @property
    def ranks(self) -> int:
        """Processes of one training run."""
        return self.nodes * self.devices

    @property
    def wants_gpus(self) -> bool:
        """Whether each process is to have a GPU of its own."""
        return (self.given.get("device") or "cpu") != "cpu"

    def typed(self, shard: str | None = None) -> list[str]:
        """Give the words that a process runs; what was begun goes on."""
        words = [sys.executable, "-m", "medmcl", *self.words]
        if self.given.get("resume") is False:
            words.append("--resume")
        return words if shard is None else [*words, "--shard", shard]


NOTICE = 180
"""Seconds before the end of its time at which Slurm tells a job to save."""
RANKS = """\
export MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))
export WORLD_SIZE=$SLURM_NTASKS
srun bash -c 'RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID exec "$@"' rank \\
    {command}
"""
ONE = """\
srun {command}
"""
END = f"""\
code=$?
if [ $code -eq {EXIT_CODE} ]; then  # it saved its state, as it was told to
    scontrol requeue "$SLURM_JOB_ID"
fi
exit $code
"""


def script(job: Job, options: Sequence[str] = ()) -> str:
    """Write the job script.

    Args:
        job: What runs.
        options: Further options of ``sbatch``, as they are typed: ``--partition=gpu``.

    Ranks are processes of ``srun``, one a device, and meet at the first node. A shard is a task of
    a job array. `NOTICE` seconds before the time is over Slurm sends SIGTERM: a training run saves
    its state, ends with 75, and is queued again.
    """
    lines = [f"--job-name={job.name}", "--open-mode=append", "--requeue", f"--signal=TERM@{NOTICE}"]
    if job.shards > 1:
        lines += [f"--array=1-{job.shards}", "--ntasks=1", f"--output={job.name}-%A_%a.log"]
    else:
        lines += [f"--nodes={job.nodes}", f"--ntasks-per-node={job.devices}"]
        lines += [f"--output={job.name}-%j.log"]
    if job.wants_gpus:
        lines.append(f"--gpus-per-node={job.devices}")
    command = shlex.join(job.typed())
    if job.shards > 1:
        command += f' --shard "$SLURM_ARRAY_TASK_ID/{job.shards}"'
    return "\n".join(
        [
            "#!/bin/bash",
            *(f"#SBATCH {line}" for line in [*lines, *options]),
            "",
            f"cd {shlex.quote(str(Path.cwd()))} || exit 1",
            (RANKS if job.ranks > 1 else ONE).format(command=command) + END,
        ]
    )


def submit(text: str) -> str:
    """Hand a job script to Slurm; give the number of the job.

    Raises:
        ConfigError: There is no Slurm here, or it refuses the job.
    """
    sbatch = shutil.which("sbatch")
    if sbatch is None:
        raise ConfigError(
            "there is no Slurm here: `sbatch` is not on the PATH",
            where="--slurm",
            fix="type it where the cluster takes jobs, or carry there what --dry-run prints",
        )
    done = subprocess.run(
        [sbatch, "--parsable"], input=text, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ConfigError(
            "Slurm refuses the job",
            where="sbatch",
            got=" ".join(done.stderr.split())[:300] or f"exit code {done.returncode}",
            fix="--sbatch OPTION adds what this cluster wants, --sbatch=--partition=gpu for one",
        )
    return done.stdout.strip()


ENDS_WITH_WORKER = (
    "import sys; from medmcl.core.children import begin; begin(int(sys.argv.pop(1))); "
    "from medmcl.cli.main import main; main()"
)
"""``python -m medmcl`` that ends when the worker that started it is killed: it would go on beside
the one that takes its place."""
RESTARTS = 3
"""How often ranks are started again after one of them, or its machine, is lost."""


def lines(job: Job) -> list[str]:
    """Give the command line of each process."""
    if job.ranks > 1:
        return [f"RANK={rank} {shlex.join(job.typed())}" for rank in range(job.ranks)]
    return [shlex.join(words) for words in _shards(job)]


def _shards(job: Job) -> list[list[str]]:
    if job.shards == 1:
        return [job.typed()]
    return [job.typed(f"{number + 1}/{job.shards}") for number in range(job.shards)]


def run(job: Job) -> None:
    """Run a job to its end.

    The machines of the cluster must see the same files under the same paths, and have medmcl.
    A shard whose worker dies is started again; of ranks all are, and go on from what is saved.

    Raises:
        ExtraNotInstalledError: Ray is not installed.
        ConfigError: The cluster does not answer, or has fewer CPUs or GPUs than the job wants.
        MedmclError: The command failed; what it said last.
    """
    from medmcl.cooccurrence.count.workers import map_on_ray, ray_cluster

    with ray_cluster():
        gpus = _gpus(job)
        if job.ranks > 1:
            _train(job, gpus)
        else:
            jobs = [(words, str(Path.cwd())) for words in _shards(job)]
            map_on_ray(typed, jobs, gpus=gpus)


def _gpus(job: Job) -> int:
    """Give the GPUs of each process: one, or none where ``--device auto`` finds a cluster without.

    Raises:
        ConfigError: Ray would wait for ever for what the cluster does not have.
    """
    from medmcl.cooccurrence.count.workers import cluster_has

    gpus = int(job.wants_gpus)
    if job.given.get("device") == "auto" and not cluster_has("GPU"):
        gpus = 0
    for kind, each in (("CPU", 1), ("GPU", gpus)):
        there = cluster_has(kind)
        if there < job.ranks * each:
            raise ConfigError(
                "the Ray cluster is too small",
                where=job.command,
                got=counted(there, kind),
                expected=f"{job.ranks * each}: one for each process",
                fix="start more of its machines first, or launch fewer processes"
                + (", or say --device cpu" if kind == "GPU" else ""),
            )
    return gpus


def typed(words: list[str], folder: str, around: dict[str, str] | None = None) -> None:
    """Run a command line in a folder, and pass on what it says; raise its end if it fails."""
    command = [words[0], "-c", ENDS_WITH_WORKER, str(os.getpid()), *words[3:]]
    last: deque[str] = deque(maxlen=12)
    with subprocess.Popen(
        command, cwd=folder, env={**os.environ, **(around or {})}, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    ) as process:  # fmt: skip
        for line in process.stdout or ():
            sys.stdout.write(line)  # Ray brings it to whoever launched
            last.append(line.rstrip())
    if process.returncode:
        raise ArtefactError(
            f"exit code {process.returncode} of `medmcl {words[3]}`", got="\n".join(last)
        )


def _train(job: Job, gpus: int) -> None:
    train, torch = import_extra("ray.train", "ray"), import_extra("ray.train.torch", "ray")
    notes = Path(f"{job.given['out']}.ray").absolute()  # Ray wants a folder that all machines see
    trainer = torch.TorchTrainer(
        _rank,
        train_loop_config={"words": job.typed(), "folder": str(Path.cwd())},
        torch_config=torch.TorchConfig(backend="gloo"),  # of Ray's own; the command has its group
        scaling_config=train.ScalingConfig(num_workers=job.ranks, use_gpu=bool(gpus)),
        run_config=train.RunConfig(
            name=job.name,
            storage_path=str(notes),
            failure_config=train.FailureConfig(max_failures=RESTARTS),
        ),
    )
    try:
        trainer.fit()
    except Exception as error:  # Ray has an own class a release
        raise MedmclError(
            "the ranks did not end well", where="Ray", got=str(error).strip()[-1500:]
        ) from None
    finally:
        shutil.rmtree(notes, ignore_errors=True)


def _rank(given: dict[str, Any]) -> None:
    """Be one rank: Ray says which, the first one says where they meet."""
    from ray.train import get_context
    from ray.train.collective import broadcast_from_rank_zero

    context = get_context()
    place = broadcast_from_rank_zero(_free_port())
    around = {
        "RANK": str(context.get_world_rank()), "LOCAL_RANK": str(context.get_local_rank()),
        "WORLD_SIZE": str(context.get_world_size()), "MASTER_ADDR": place[0],
        "MASTER_PORT": str(place[1]),
    }  # fmt: skip
    typed(given["words"], given["folder"], around)


def _free_port() -> tuple[str, int]:
    """Name this machine, and a port of it that nobody uses."""
    with socket.socket() as found:
        found.bind(("", 0))
        return socket.gethostbyname(socket.gethostname()), int(found.getsockname()[1])
