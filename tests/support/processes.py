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


def start(words):
    """Start ``medmcl`` with these words."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", CODE, json.dumps(words)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip


def finish(process):
    """Wait for a process that must end well; give what it said."""
    out, errors = process.communicate()
    assert process.returncode == 0, errors
    return out, errors


def weights(run, stage, pointer="last"):
    return medmcl.load(run).checkpoints(stage).weights(pointer)


def assert_same_weights(a, b, stages, pointer="last"):
    for stage in stages:
        first, second = weights(a, stage, pointer), weights(b, stage, pointer)
        assert first.keys() == second.keys()
        for name, value in first.items():
            assert torch.equal(value, second[name]), f"{stage}: {name}"
