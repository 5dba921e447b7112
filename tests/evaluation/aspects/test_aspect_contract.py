"""Aspects keep one contract: evaluate stage and report go through the map and know none of them."""

import ast
import csv
import json
from importlib import import_module
from pathlib import Path

import pandas as pd
import pytest
from made_report import result_rows

import medmcl
from medmcl.evaluation.aspects.aspect import ASPECTS, Aspect, AspectSpec, OfModels, OfStage
from medmcl.evaluation.protocol.evaluation import Evaluation, Found
from medmcl.evaluation.protocol.results import Result
from medmcl.evaluation.report.page import pages, write_report
from medmcl.evaluation.report.section import Said, Section, Shown
from medmcl.stages.evaluate.spec import KEYS, EvaluateSpec

PACKAGE = Path(medmcl.__file__).parent
SHOWS = ("sections", "sentences", "files")


def parts_of(aspect):
    """What it says itself, and the functions of its page."""
    page = {*vars(import_module(aspect.page))} if aspect.page else set()
    return {*vars(aspect)} | page & {*SHOWS, "not_shown"}


@pytest.mark.parametrize("name", ASPECTS)
def test_an_aspect_stands_in_a_folder_of_its_own(name):
    aspect = ASPECTS[name]
    assert issubclass(aspect, Aspect)
    assert aspect.__module__ == f"medmcl.evaluation.aspects.{name}.aspect"
    own = vars(aspect)
    if aspect.Settings is None:  # measured with the tasks, or by another stage
        assert "measure" not in own
    else:
        assert issubclass(aspect.Settings, AspectSpec)
        assert aspect.Settings.__module__ == aspect.__module__
        assert "measure" in own
        assert name in EvaluateSpec.model_fields
    assert aspect.page.startswith(f"medmcl.evaluation.aspects.{name}.") or not aspect.page
    assert {*SHOWS} & parts_of(aspect) or name == "zero_shot", "its rows are those of tasks"


@pytest.mark.parametrize("name", ASPECTS)
def test_an_aspect_of_nothing_shows_nothing(name):
    empty, aspect = Evaluation(), ASPECTS[name]()
    assert all(
        (one if isinstance(one, Section) else one()).is_empty for one in aspect.sections(empty)
    )
    assert not any(rows for rows in aspect.files(empty).values())
    assert not [*aspect.sentences(empty)]
    assert not [*aspect.not_shown(empty)]


def test_a_hook_that_no_aspect_uses_has_gone():
    for base, kinds, of in (
        (Aspect, [ASPECTS[name] for name in ASPECTS], parts_of),
        (AspectSpec, [OfStage, OfModels, *(ASPECTS.settings[name] for name in KEYS)], vars),
    ):
        hooks = {one for one in vars(base) if one[0] != "_"} & {*dir(base)}
        used = {one for kind in kinds for one in of(kind)}
        assert hooks - used <= {"model_config", "model_fields", "model_computed_fields"}


@pytest.mark.parametrize("path", ["evaluation/report", "stages/evaluate/stage.py"])
def test_report_and_stage_name_no_aspect(path):
    """Tasks are what an evaluation is about: the stage measures them itself."""
    root = PACKAGE / path
    found = [
        f"{file.relative_to(PACKAGE)} imports {node.module}"
        for file in ([root] if root.is_file() else root.rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom)
        and str(node.module).startswith("medmcl.evaluation.aspects.")
        and str(node.module).split(".")[3] not in ("aspect", "tasks", "selection")
    ]
    assert not found


class Counted(Aspect[AspectSpec]):
    """An aspect that is put into the map."""

    has_rows = True

    def sections(self, data):
        found = data.rows_of("counted")
        table = Shown(title="Counts", aid="", header=("n",), rows=((str(len(found)),),))
        yield Section.of("counted", "What was counted", tables=[table], short="Counted")

    def sentences(self, data):
        yield Said("Also", f"{data.shown['counted'][0]} were counted.")

    def not_shown(self, data):
        yield "The uncounted are not shown."

    def files(self, data):
        return {"counts": [{"n": len(data.rows_of("counted"))}]}


def test_what_is_put_into_the_map_is_told_shown_and_written(monkeypatch, tmp_path):
    monkeypatch.setitem(ASPECTS, "counted", Counted)
    missing = pd.DataFrame({"ecg": [True, True], "cmr": [True, False]})
    data = Evaluation(title="t", results=result_rows(["mi"], ["ours"]), missingness=missing)
    row = Result(task="t", target="t", kind="counted", metric="m", direction="higher",
                 method="ours", protocol="p", value=0.5, n=30)  # fmt: skip
    data.add(Found(results=[row], shown={"counted": ["Three"]}))
    write_report(tmp_path / "report.html", data)
    first, appendix = ((tmp_path / name).read_text(encoding="utf-8")
                       for name in ("report.html", "appendix.html"))  # fmt: skip
    assert "Three were counted." in first
    assert first.index('id="counted"') > first.index('id="missingness"')
    assert "The uncounted are not shown." in appendix
    assert (tmp_path / "counts.csv").read_text(encoding="utf-8").split() == ["n", "1"]
    told = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert [one["value"] for one in told["counted"]] == [0.5]
    assert all(one["kind"] != "counted" for one in told["results"]), "no row of a task"
    with (tmp_path / "results.csv").open(encoding="utf-8", newline="") as file:
        assert [one["kind"] for one in csv.DictReader(file)][-1] == "counted"
    monkeypatch.delitem(ASPECTS, "counted")
    assert "Three were counted." not in "".join(pages(data))


def test_what_was_found_is_joined_in_place_and_the_ledger_says_each_line_once():
    whole = Evaluation()
    notes = whole.notes
    whole.add(Found(notes=["a"], shown={"maps": [1]}))
    whole.add(Found(notes=["b"], shown={"maps": [2]}))
    assert notes == whole.notes == ["a", "b"]
    assert whole.shown == {"maps": [1, 2]}
