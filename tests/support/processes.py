"""Runs of the command line in processes of their own, and whether two runs learned the same."""

import json
import os
import subprocess
import sys

import torch

import medmcl

CODE = """
import json, sys
import torch
torch.set_num_threads(1)
from medmcl.cli.main import main
sys.argv = ["medmcl", *json.loads(sys.argv[1])]
main()
"""
RANKS = """
import json, os, socket, sys
import torch
torch.set_num_threads(1)
import matplotlib.figure, medmcl.stages.run.pretrain
from medmcl.cli.main import main
sys.argv = ["medmcl", *json.loads(sys.argv[1])]
with socket.socket() as free:
    free.bind(("localhost", 0))
    port = free.getsockname()[1]
os.environ |= {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
ranks = []
for rank in ("0", "1"):
    ranks.append(os.fork())
    if not ranks[-1]:
        os.environ |= {"RANK": rank, "LOCAL_RANK": rank}
        main()
sys.exit(any([os.waitpid(rank, 0)[1] for rank in ranks]))
"""
"""What torchrun does, importing once: two processes that know of each other."""


def start(words, code=CODE):
    """Start ``medmcl`` with these words."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", code, json.dumps(words)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip


def run_in_two(words):
    """Run ``medmcl`` with these words in two processes that share each batch."""
    finish(start([*words, "--device", "cpu", "--devices", "2", "--workers", "0"], RANKS))


def pretrain_in_two(cohort, recipe, out, overrides):
    """Train in two processes with the overrides of `medmcl.pretrain`; give the run."""
    words = ["pretrain", "--cohort", str(cohort), "--recipe", str(recipe), "--out", str(out)]
    for key, value in overrides.items():
        words += ["--set", f"{key}={json.dumps(value)}"]
    run_in_two(words)
    return medmcl.load(out)


def finish(process):
    """Wait for a process that must end well; give what it said."""
    out, errors = process.communicate()
    assert process.returncode == 0, errors
    return out, errors


def ranks_of(worker, folder, timeout):
    """What two processes of a script found: each writes ``rank-N.json`` to a folder.

    A rank that waits for ever is ended, and so is the other.
    """
    environment = {**os.environ, "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)  # also tests/support
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", str(worker), str(folder)],
            env={**environment, "RANK": rank, "LOCAL_RANK": rank},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    ]
    try:
        errors = [process.communicate(timeout=timeout)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(errors)
    assert not any("Warning" in error for error in errors), errors
    return [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in range(2)]


def weights(run, stage, pointer="last"):
    return medmcl.load(run).checkpoints(stage).weights(pointer)


def assert_same_weights(a, b, stages, pointer="last"):
    for stage in stages:
        first, second = weights(a, stage, pointer), weights(b, stage, pointer)
        assert first.keys() == second.keys()
        for name, value in first.items():
            assert torch.equal(value, second[name]), f"{stage}: {name}"
