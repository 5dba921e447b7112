"""What medmcl imports is what pyproject.toml asks for, and the other way round.

torchvision is not asked for: nothing here imports it, and timm, which does, asks for it itself.
"""

import ast
import importlib.metadata
import re
import sys
import tomllib
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CALLED = {"PIL": "pillow", "yaml": "pyyaml", "sklearn": "scikit-learn", "faiss": "faiss-cpu",
          "sksurv": "scikit-survival", "bed_reader": "bed-reader"}  # fmt: skip
"""Package as it is imported, to the name it is installed by."""
KEPT = {"torch", "monai", "nibabel", "wfdb", "pandas", "scikit-learn", "torch-geometric", "timm"}
"""The user's choice: these stay at run time, and each is used."""
TOOLS = {
    "pytest-timeout",
    "pytest-xdist",
    "ruff",
    "mypy",
    "pandas-stubs",
    "types-pyyaml",
    "ipykernel",
}
"""Of the extra `dev`: run, not imported."""


def installed(name):
    return CALLED.get(name, name).lower().replace("_", "-")


def asked(requirements):
    return {Requirement(one).name.lower().replace("_", "-") for one in requirements}


RUNTIME = asked(PROJECT["dependencies"])
EXTRAS = {name: asked(ones) for name, ones in PROJECT["optional-dependencies"].items()}
OPTIONAL = set().union(*(ones for name, ones in EXTRAS.items() if name != "dev"))


def imports(tree):
    """Packages that a module imports, also by `import_module` and its like of a name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (one.name.split(".")[0] for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module).split(".")[0]
        elif (
            isinstance(node, ast.Call)
            and ast.unparse(node.func).endswith(("import_module", "import_extra", "importorskip"))
            and isinstance(node.args[0], ast.Constant)
        ):
            yield node.args[0].value.split(".")[0]


def imported(folder, *, at_top=False):
    """Packages from elsewhere that a folder imports; ``at_top``: when its modules are imported."""
    found = set()
    for path in (ROOT / folder).rglob("*.py"):
        tree = ast.parse(path.read_text())
        if at_top:
            tree.body = [one for one in tree.body if isinstance(one, ast.Import | ast.ImportFrom)]
        found |= set(imports(tree))
    own = {"medmcl", "tests", "benchmarks", "medmcl_spirometry"}
    own |= {p.stem for part in ("tests", "benchmarks") for p in (ROOT / part).rglob("*.py")}
    return {installed(one) for one in found - own - set(sys.stdlib_module_names)}


def test_every_import_is_declared_and_every_dependency_imported():
    used = imported("medmcl")
    assert used - RUNTIME - OPTIONAL == set(), "imported, and not asked for"
    assert RUNTIME - used == set(), "asked for at run time, and not imported"
    assert OPTIONAL - used == set(), "an extra that does nothing"
    assert RUNTIME.isdisjoint(OPTIONAL)


def test_an_extra_is_imported_where_it_is_used():
    """Whoever did not install it can import every module but the one of numba's compiled loops."""
    assert imported("medmcl", at_top=True) & OPTIONAL == {"numba"}
    assert imported("medmcl/cooccurrence/count", at_top=True) & OPTIONAL == {"numba"}


def test_what_the_tests_import_is_declared():
    """And what only the tests import is no dependency of medmcl."""
    used = imported("tests")
    assert used - RUNTIME - EXTRAS["dev"] - OPTIONAL == {"pytest"} - EXTRAS["dev"]
    assert EXTRAS["dev"] - TOOLS - OPTIONAL - used == set(), "for the tests, and not imported"


def test_the_chosen_packages_stay_and_torch_is_new_enough():
    assert KEPT <= RUNTIME
    torch = next(one for one in PROJECT["dependencies"] if Requirement(one).name == "torch")
    assert torch == "torch>=2.10"


def test_timm_asks_for_torchvision_itself():
    needs = [Requirement(one) for one in importlib.metadata.requires("timm")]
    assert any(one.name == "torchvision" and one.marker is None for one in needs)


def test_the_tested_set_fits_the_bounds():
    """All but torch and torchvision, whose builds differ by machine, and faiss."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.lower().split("==") for line in lines if re.match(r"[\w.-]+==", line))
    assert len(pins) == len([line for line in lines if line and not line.startswith("#")])
    every = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    for one in map(Requirement, chain(*every)):
        name = one.name.lower().replace("_", "-")
        if name not in ("torch", "torchvision", "faiss-cpu"):
            assert name in pins, name
            assert one.specifier.contains(pins[name]), (name, pins[name], str(one.specifier))
    assert not [line for line in lines if "://" in line or line.startswith("-")]


@pytest.mark.parametrize("name", ["flwr", "huggingface-hub", "torchsurv", "torchvision", "meds"])
def test_what_nothing_here_imports_is_not_asked_for(name):
    assert name not in RUNTIME | OPTIONAL
