"""What is started on a cluster: one command, as ranks of one run or as shards; its Slurm script."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medmcl.core.errors import ConfigError
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
