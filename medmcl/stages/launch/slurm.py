"""A job script for Slurm, and its submission."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from medmcl.core.errors import ConfigError
from medmcl.engine.signals import EXIT_CODE
from medmcl.stages.launch.job import Job

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
