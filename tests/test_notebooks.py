"""Every notebook runs from top to bottom, and is committed without outputs.

Cells are run by IPython in a fork, which has imported torch already, with half the people, and no
stage trains longer than `MOST_STEPS`; one notebook runs as people run it, in a Jupyter kernel.
"""

import io
import os
import warnings
from pathlib import Path

import nbformat
import pytest
from drawing import undrawn
from killed import forked

import medmcl
from medmcl.stages.train import train as training

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "notebooks").glob("*.ipynb"))
IN_A_KERNEL = "04_ehr_without_sharing.ipynb"  # the one that trains nothing
MOST_STEPS = 25
WHOLE = "08_shortcuts.ipynb"  # groups of half of its people are too small to train within


def code_of(notebook):
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def run_cells(cells, folder, share):
    """Run cells as a kernel does: what the last line gives is shown, and figures are drawn."""
    import matplotlib.pyplot as plt
    from IPython.core.interactiveshell import InteractiveShell

    plan, simulate = training.Plan, medmcl.simulate
    training.Plan = lambda *, steps, **more: plan(steps=min(steps, MOST_STEPS), **more)
    medmcl.simulate = lambda kind, out, settings: simulate(
        kind, out, {**settings, "subjects": settings["subjects"] // share}
    )
    os.chdir(folder)
    shell = InteractiveShell.instance()
    with undrawn(), warnings.catch_warnings():  # of a notebook's runs, not of its own figures
        warnings.simplefilter("default")
        for cell in cells:
            shell.run_cell(cell).raise_error()
            for number in plt.get_fignums():
                plt.figure(number).savefig(io.BytesIO())
            plt.close("all")


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
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_runs(path, tmp_path, monkeypatch):
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("MPLBACKEND", "agg")
    cells = code_of(nbformat.read(path, as_version=4))
    share = 1 if path.name == WHOLE else 2
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
