"""Stages keep one contract: whoever goes through a recipe knows none of them."""

import ast
from pathlib import Path
from typing import get_args

import pytest

import medmcl
from medmcl.stages.stage import STAGES, Stage, StageSpec

PACKAGE = Path(medmcl.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
SPECS = {
    spec.__name__: PACKAGE.joinpath(*spec.__module__.split(".")[1:]).parent
    for kind in STAGES
    for spec in STAGES.settings[kind].__mro__
    if issubclass(spec, StageSpec) and spec is not StageSpec
}
"""Name of a spec to its folder."""


def asked_whether_it_is(tree):
    """Classes that a file asks by ``isinstance`` whether something is one of."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "isinstance":
            names = ast.walk(node.args[1])
            yield from ((one.id, node.lineno) for one in names if isinstance(one, ast.Name))


def test_nobody_outside_its_folder_asks_whether_a_stage_is_of_a_kind():
    found = [
        f"{path.relative_to(PACKAGE)}:{line}: isinstance(…, {name})"
        for path in FILES
        for name, line in asked_whether_it_is(ast.parse(path.read_text(encoding="utf-8")))
        if name in SPECS and SPECS[name] not in path.parents
    ]
    assert not found, "ask the stage (medmcl/stages/stage.py), not whether it is one"


@pytest.mark.parametrize("kind", STAGES)
def test_a_stage_stands_in_a_folder_of_its_own(kind):
    spec, work = STAGES.settings[kind], STAGES[kind]
    assert issubclass(spec, StageSpec)
    assert issubclass(work, Stage)
    assert get_args(spec.model_fields["stage"].annotation) == (kind,)
    for part in (spec, work):
        assert part.__module__.startswith(f"medmcl.stages.{kind}.")
    assert not work.__abstractmethods__


def test_a_hook_that_no_stage_uses_has_gone():
    own = {name for name, one in vars(StageSpec).items() if callable(one) and name[0] != "_"}
    hooks = own - {*vars(StageSpec.__base__)}
    specs = [spec for kind in STAGES for spec in STAGES.settings[kind].__mro__]
    used = {name for spec in specs if issubclass(spec, StageSpec) and spec is not StageSpec
            for name in vars(spec)}  # fmt: skip
    assert hooks
    assert hooks - used == set()
