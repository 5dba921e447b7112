"""The house: imports go one way, the command line stays light, tensors name their devices."""

import ast
import resource
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "medmcl"
LAYERS = {
    "core": 0,
    "modalities": 1,
    "data": 2,
    **dict.fromkeys(
        (
            "simulation",
            "encoders",
            "objectives",
            "selection",
            "grouping",
            "cooccurrence",
            "threats",
            "evaluation",
        ),
        3,
    ),
    "models": 4,
    "engine": 4,
    "stages": 5,
    "cli": 6,
}
FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.fixture(scope="module")
def nodes():
    """Every file with what stands in it."""
    return {path: [*ast.walk(ast.parse(path.read_text()))] for path in FILES}


def imported(nodes):
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module or ""


def test_imports_go_one_way(nodes):
    for path in FILES:
        here = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if here not in LAYERS:
            continue
        for name in imported(nodes[path]):
            parts = name.split(".")
            if parts[0] != "medmcl" or len(parts) < 2 or parts[1] == here:
                continue
            assert LAYERS[parts[1]] < LAYERS[here], f"{path} imports {name}"


MAKERS = {
    "tensor", "zeros", "ones", "empty", "full", "arange", "linspace", "rand", "randn", "randint",
    "randperm", "eye", "as_tensor", "Generator", "logspace", "tril_indices", "triu_indices",
}  # fmt: skip


def test_every_tensor_names_its_device(nodes):
    for path, node in ((path, one) for path, each in nodes.items() for one in each):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        owner = node.func.value
        if isinstance(owner, ast.Name) and owner.id == "torch" and node.func.attr in MAKERS:
            named = {keyword.arg for keyword in node.keywords}
            assert "device" in named, f"{path}:{node.lineno} torch.{node.func.attr} without device"


def test_a_folder_can_be_taken_in_at_a_glance():
    folders = {path.parent for path in FILES}
    full = {str(one): n for one in folders if (n := len(list(one.glob("*.py")))) > 30}
    assert not full


def test_there_is_no_utils():
    assert not [p for p in FILES if p.stem in ("utils", "util", "common", "helpers", "misc")]


def processor_seconds():
    """Processor time of all children that have ended, in seconds."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_help_answers_in_half_a_second_of_processor_time():
    command = [sys.executable, "-m", "medmcl", "--help"]
    best = 9.0
    for _ in range(3):
        began = processor_seconds()
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        best = min(best, processor_seconds() - began)
    assert "pretrain" in done.stdout
    assert best < 0.5
