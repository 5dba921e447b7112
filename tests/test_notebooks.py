"""Every notebook runs from top to bottom, and is committed without outputs.

Cells are run by IPython in a fork, which has imported torch already, with a quarter of the people.
No stage trains longer than `MOST_STEPS`, and commands that cells start are forks, too. One notebook
runs as people run it, in a Jupyter kernel.
"""

import importlib
import io
import os
import subprocess
import sys
import warnings
from pathlib import Path

import nbformat
import pytest
from drawing import undrawn
from killed import forked
from processes import Command

import medmcl
from medmcl.stages.train import train as training

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "notebooks").glob("*.ipynb"))
IN_A_KERNEL = "04_ehr_without_sharing.ipynb"  # the one that trains nothing
MOST_STEPS = 8
WHOLE = "08_shortcuts.ipynb"  # groups of half of its people are too small to train within


def code_of(notebook):
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def in_a_fork(words, *, started=subprocess.run, **how):
    """What `subprocess.run` gives of ``python -m medmcl``."""
    if [*words[:3]] != [sys.executable, "-m", "medmcl"]:
        return started(words, **how)
    command = Command(words[3:])
    said = command.communicate()
    return subprocess.CompletedProcess(words, command.returncode, *said)


def run_cells(cells, folder, share):
    """Run cells as a kernel does: what the last line gives is shown, and figures are drawn."""
    import matplotlib.pyplot as plt
    from IPython.core.interactiveshell import InteractiveShell

    plan, simulate = training.Plan, medmcl.simulate
    training.Plan = lambda *, steps, **more: plan(steps=min(steps, MOST_STEPS), **more)
    medmcl.simulate = lambda kind, out, settings: simulate(
        kind, out, {**settings, "subjects": settings["subjects"] // share}
    )
    subprocess.run = in_a_fork
    os.chdir(folder)
    shell = InteractiveShell.instance()
    with undrawn(), warnings.catch_warnings():  # of a notebook's runs, not of its own figures
        warnings.simplefilter("default")
        for cell in cells:
            shell.run_cell(cell).raise_error()
            for number in plt.get_fignums():
                plt.figure(number).savefig(io.BytesIO())
            plt.close("all")


@pytest.fixture(scope="module")
def imported():
    """What notebooks import, once and not in each fork."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPLBACKEND", "agg")
        for name in ("IPython.core.interactiveshell", "matplotlib.pyplot", "sklearn.linear_model",
                     "medmcl.stages.run.pretrain"):  # fmt: skip
            importlib.import_module(name)


def test_there_is_a_notebook():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_is_valid_and_holds_no_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert not cell.outputs, cell.source[:80]
            assert cell.execution_count is None


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "path", [one for one in NOTEBOOKS if one.name != IN_A_KERNEL], ids=lambda path: path.name
)
@pytest.mark.usefixtures("imported")
def test_a_notebook_runs(path, tmp_path, monkeypatch):
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("MPLBACKEND", "agg")
    cells = code_of(nbformat.read(path, as_version=4))
    share = 1 if path.name == WHOLE else 4
    code, _ = forked(lambda: run_cells(cells, tmp_path, share), tmp_path, limit=500)
    assert code == 0  # what went wrong is in the output


# Jupyter's own warnings about its event loop and folders are not ours to fix.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_a_notebook_runs_in_a_kernel(tmp_path, monkeypatch):
    from nbclient import NotebookClient

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    (path,) = [path for path in NOTEBOOKS if path.name == IN_A_KERNEL]
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    ).execute()  # raises CellExecutionError with the traceback of the cell that failed
