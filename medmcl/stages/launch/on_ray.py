"""A job on a Ray cluster: ranks by Ray Train, shards as tasks."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
import sys
from collections import deque
from pathlib import Path
from typing import Any

from medmcl.cooccurrence.count.workers import cluster_has, map_on_ray, ray_cluster
from medmcl.core.errors import (
    ArtefactError,
    ConfigError,
    ExtraNotInstalledError,
    MedmclError,
)
from medmcl.core.findings import counted
from medmcl.stages.launch.job import Job

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
    process = subprocess.Popen(
        command, cwd=folder, env={**os.environ, **(around or {})}, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    last: deque[str] = deque(maxlen=12)
    for line in process.stdout or ():
        sys.stdout.write(line)  # Ray brings it to whoever launched
        last.append(line.rstrip())
    if process.wait():
        raise ArtefactError(
            f"exit code {process.returncode} of `medmcl {words[3]}`", got="\n".join(last)
        )


def _train(job: Job, gpus: int) -> None:
    try:
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer
    except ImportError:
        raise ExtraNotInstalledError("ray[train]", "ray") from None
    notes = Path(f"{job.given['out']}.ray").absolute()  # Ray wants a folder that all machines see
    trainer = TorchTrainer(
        _rank,
        train_loop_config={"words": job.typed(), "folder": str(Path.cwd())},
        torch_config=TorchConfig(backend="gloo"),  # of Ray's own; the command has its group
        scaling_config=ScalingConfig(num_workers=job.ranks, use_gpu=bool(gpus)),
        run_config=RunConfig(
            name=job.name,
            storage_path=str(notes),
            failure_config=FailureConfig(max_failures=RESTARTS),
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
