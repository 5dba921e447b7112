"""What is not declared in a contract is called by nobody."""

import ast
from dataclasses import fields
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest

import medmcl
from medmcl.core import contracts
from medmcl.core.contracts import Traits, traits
from medmcl.encoders import encoded
from medmcl.modalities import ADAPTERS

PACKAGE = Path(medmcl.__file__).parent

FOREIGN = {
    "torch, timm and transformers": {
        "detach", "grouped_mm", "num_prefix_tokens", "patch_embed", "grid_size", "pooler",
        "hidden_size", "max_position_embeddings", "vision_config", "mask_ratio", "image_size",
        "patch_size", "num_channels", "use_head", "pooler_output", "mask_token"},
    "h5py": {"ndim"},
    "scikit-learn": {"classes_", "feature_names_in_", "kind_", "_sklearn_output_config"},
    "pandas and numpy": {"columns", "iloc", "dtype", "tz", "__len__"},
    "Python": {"__name__", "__metadata__", "sched_getaffinity", "pthread_sigmask"},
    "PyYAML": {"CSafeLoader", "problem_mark", "context_mark", "problem", "context"},
    "Pillow": {"n_frames"},
    "wfdb": {"seg_name", "units", "samps_per_frame"},
    "NumPy": {"__array__"},
    "click": {"help"},
}  # fmt: skip
"""Names of other projects, which may lack them by version or kind: not medmcl's to declare."""
OWN = {
    "folder": "an ArtefactError of a run that was cut off",
    "observe": "declared in Watches, of a type: isinstance alone is slow at every step",
    "after_step": "declared in MovesAfterSteps, as observe",
    "selected_by": "a train stage's spec",
    "lexicon": "a source of counts: only notes have it",
    "join": "a source of counts: only tables have it",
    "metric": "a row of what an evaluation found; with value, told from its other parts",
    "value": "as metric",
    "subjects": "a part of what an evaluation found that says of how many people it is",
    "n": "as subjects",
    "survival": "a curve of risk groups; of competing events it is incidence",
    "pretrained": "an encoder that is made of `EncoderModule`, which one from outside may not be",
}
"""Names of medmcl's own that no contract of parts is about."""


def declared():
    """Names that a contract declares: methods and attributes of its protocols, and traits."""
    names = {one.name for one in fields(Traits)}
    for module in (contracts, encoded):
        for node in ast.parse(Path(module.__file__).read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and any("Protocol" in ast.unparse(b)
                                                      for b in node.bases):  # fmt: skip
                for line in node.body:
                    if isinstance(line, ast.FunctionDef):
                        names.add(line.name)
                    elif isinstance(line, ast.AnnAssign):
                        names.add(ast.unparse(line.target))
    return names


FILES = sorted(PACKAGE.rglob("*.py"))


def last(node):
    """The last name of ``a.b.c``."""
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


@cache
def nodes(path):
    """All that stands in a file."""
    return [*ast.walk(ast.parse(path.read_text(encoding="utf-8")))]


@cache
def asked():
    """Names that ``hasattr`` and ``getattr`` ask for literally, each with its file and line."""
    return [
        (path, node.args[1].value, node.lineno)
        for path in FILES
        for node in nodes(path)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        and node.func.id in ("hasattr", "getattr") and isinstance(node.args[1], ast.Constant)
    ]  # fmt: skip


def test_what_is_looked_for_by_name_is_declared():
    known = declared().union(OWN, *FOREIGN.values())
    strange = [
        f"{path.relative_to(PACKAGE)}:{line} asks for '{name}'"
        for path, name, line in asked()
        if name not in known
    ]
    assert not strange, "declare it in core/contracts.py, and ask by isinstance: " + "\n".join(
        strange
    )


def test_what_may_be_looked_for_is_looked_for():
    """A name that nobody asks for any more leaves the lists."""
    used = {name for _, name, _ in asked()}
    assert set().union(OWN, *FOREIGN.values()) <= used | declared()


def test_nothing_undeclared_is_read_of_an_adapter():
    """A file that reads more says whose adapter it is: it imports the class."""
    known, strange = declared() | {"source"}, []
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        if path.is_relative_to(PACKAGE / "modalities") or ".adapter import" in text:
            continue
        for node in nodes(path):
            if isinstance(node, ast.Attribute) and node.attr not in known:
                whose = node.value
                if last(whose) == "adapter" or (
                    isinstance(whose, ast.Subscript) and last(whose.value).endswith("adapters")
                ):
                    strange.append(f"{path.relative_to(PACKAGE)}:{node.lineno} {node.attr}")
    assert not strange, strange


def test_lists_of_kinds_stand_nowhere_but_with_the_kinds():
    """In rooms that must do with any adapter no kind is compared, listed or looked up."""
    kinds, strange = {*ADAPTERS} - {*ADAPTERS.outside}, []
    rooms = ("data", "encoders", "objectives", "selection", "grouping", "threats", "evaluation",
             "engine", "stages", "cli")  # fmt: skip
    for path in FILES:
        if path.relative_to(PACKAGE).parts[0] not in rooms:
            continue
        for node in nodes(path):
            told = []
            if isinstance(node, ast.Compare) and last(node.left) == "kind":
                told = node.comparators
            elif isinstance(node, ast.Subscript) and "ADAPTERS" in ast.unparse(node.value):
                told = [node.slice]
            elif isinstance(node, ast.Dict):
                told = [key for key in node.keys if key is not None]
                told = told if sum(said(one) in kinds for one in told) > 1 else []
            found = {said(one) for one in told} & kinds
            if found and path.relative_to(PACKAGE).parts[:2] not in OF_CELLS:
                strange.append(f"{path.relative_to(PACKAGE)}:{node.lineno} {sorted(found)}")
    assert not strange, strange


def said(node):
    """The text of a literal, else nothing."""
    return node.value if isinstance(node, ast.Constant) else None


OF_CELLS = {("data", "expressions"), ("data", "tables"), ("data", "cohort")}
"""Here values of cells are ``text`` or ``codes``, which are no modalities."""


@pytest.mark.parametrize("kind", [kind for kind in ADAPTERS if kind not in ADAPTERS.outside])
def test_traits_of_what_ships_are_of_the_right_types(kind):
    found = traits(ADAPTERS[kind])
    for one in fields(Traits):
        value, usual = getattr(found, one.name), getattr(Traits(), one.name)
        assert isinstance(value, (type(usual), property)), one.name
    assert bool(found.packed) <= hasattr(ADAPTERS[kind], "pack")


def test_an_adapter_that_says_nothing_has_the_defaults():
    assert traits(SimpleNamespace()) == Traits()
    assert traits(SimpleNamespace(free_text=True)) == Traits(free_text=True)
