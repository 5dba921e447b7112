"""What else embeddings tell: lines beside the tasks, turned differences, figure and table."""

import json

import made_targets
import numpy as np
import pytest

from medmcl.evaluation.aspects.confounders.measure import (
    READING,
    confounder_of,
    models_of,
    told_lines,
)
from medmcl.evaluation.aspects.confounders.section import confounder_sections, told_dots
from medmcl.evaluation.protocol.evaluation import Evaluation
from medmcl.evaluation.protocol.results import Result
from medmcl.evaluation.report.files import as_json
from medmcl.evaluation.report.model_card import model_card
from medmcl.evaluation.report.page import pages, write_report

MODELS = ("before", "after")


def row(task, metric, method, value, *, target="", versus="", kind="binary", fraction=1.0, **more):
    value_ = {"value": value, "low": value - 0.1, "high": value + 0.1} if value is not None else {}
    return Result(task=task, target=target or task, kind=kind, metric=metric, method=method,
                  versus=versus, protocol="linear_probe", direction="higher", n=200,
                  label_fraction=fraction, events=40, **value_, **more)  # fmt: skip


def targets_of(name, kind, **more):
    nobody = np.zeros((2, 1))
    return made_targets.targets_of(kind, nobody, nobody, name=name, columns=(name,), **more)


def site(**more):
    about = {"kind": "multiclass"}
    rows = [
        row("site", "auroc", "before", 0.9, target="macro", **about),
        row("site", "auroc", "before", 0.7, target="north", **about),
        row("site", "auroc", "after", 0.6, target="macro", **about),
        row("site", "auroc", "majority", 0.5, target="macro", **about),
        row("site", "auroc", "after", -0.3, target="macro", versus="before", **about),
        row("site", "auroc", "majority", -0.4, target="macro", versus="before", **about),
        row("site", "balanced_accuracy", "before", 0.8, target="all classes", **about),
        row("site", "balanced_accuracy", "majority", 0.25, target="all classes", **about),
        row("site", "brier", "before", 0.2, target="all classes", **about),
    ]
    return confounder_of(targets_of("site", "multiclass", classes=tuple("abcd")), rows,
                         **more)  # fmt: skip


def age():
    rows = [
        row("age", "r2", "before", 0.4, kind="regression"),
        row("age", "r2", "after", None, kind="regression", note="one subject"),
        row("age", "mae", "before", 3.0, kind="regression"),
        row("age", "mae", "majority", 8.0, kind="regression"),
    ]
    return confounder_of(targets_of("age", "regression"), rows)


TASKS = [
    row("mi", "auroc", "before", 0.80),
    row("mi", "auroc", "after", 0.79),
    row("mi", "auroc", "covariates", 0.7),
    row("mi", "auroc", "before", 0.6, fraction=0.1),
    row("mi", "auroc", "after", -0.01, versus="before"),
    row("death", "c_index", "after", 0.7, kind="survival"),
]


def test_rows_have_no_better_side_and_say_what_chance_is():
    found = site(notes=("2 classes pooled",))
    assert {one.direction for one in found.rows} == {"chance"}
    assert {one.metric for one in found.rows} == {"auroc", "balanced_accuracy"}
    assert {one.target for one in found.rows} == {"macro", "all classes"}
    assert found.models == ["before", "after"]
    assert found.chance == {"auroc": 0.5, "balanced_accuracy": 0.25}
    assert age().chance == {"r2": 0.0, "mae": 8.0}
    plain = found.plain_rows()[0]
    assert plain["confounder"] == "site"
    assert plain["reading"] == READING
    assert plain["note"] == "2 classes pooled"
    assert not {"task", "events"} & set(plain)


def test_tasks_of_the_same_models_stand_beside_and_differences_are_first_minus_other():
    lines = told_lines([site(), age()], TASKS)
    said = [(line.what, line.is_task, line.metric) for line in lines]
    assert said == [
        ("site (4 classes)", False, "auroc"), ("site (4 classes)", False, "balanced_accuracy"),
        ("age (a number)", False, "r2"), ("age (a number)", False, "mae"),
        ("mi", True, "auroc"), ("death", True, "c_index"),
    ]  # fmt: skip
    first, task = lines[0], lines[4]
    assert first.differences["after"].value == pytest.approx(0.3)
    assert first.differences["after"].method == "before"
    assert task.differences["after"].value == pytest.approx(0.01)
    assert list(task.values) == ["before", "after"]
    assert task.values["before"].value == 0.8  # at all labels
    assert first.named == "mean AUROC"


def test_the_table_has_a_column_a_model_and_says_why_a_cell_is_empty():
    (section,) = confounder_sections([site(), age()], TASKS)
    (table,) = section.tables
    assert table.header == ("predicted", "role", "metric", "knows nothing", "before", "after",
                            "before minus after", "scored on")  # fmt: skip
    assert table.rows[0] == (
        "site (4 classes)", "confounder", "mean AUROC ◇", "0.50", "0.900 (0.800 to 1.000)",
        "0.600 (0.500 to 0.700)", "+0.300 (+0.200 to +0.400)", "held_out (200)",
    )  # fmt: skip
    assert table.rows[2][5] == "not estimable [1]"
    assert table.notes == ("[1] one subject",)
    assert table.rows[4][:4] == ("mi", "task", "AUROC ↑", "0.50")
    assert table.rows[5][4:7] == ("-", "0.700 (0.600 to 0.800)", "-")
    assert all(len(line) == len(table.header) for line in table.rows)
    assert section.lines[0].startswith("These are no tasks")


def test_the_figure_shows_tasks_on_the_scale_of_confounders_and_counts_the_others(legends_beside):
    found = [site(), age()]
    picture = told_dots(told_lines(found, TASKS), models_of(found))
    assert legends_beside() == 1
    assert [line[0] for line in picture.rows] == [
        "site (4 classes)", "site (4 classes)", "mi", "mi", "age (a number)", "age (a number)",
    ]  # fmt: skip
    assert "Tasks that are in the table only: 1." in picture.aid
    assert "site (4 classes), mean AUROC: before 0.900" in picture.alt
    empty = confounder_of(targets_of("age", "regression"),
                          [row("age", "r2", "a", None, note="none")])  # fmt: skip
    assert told_dots(told_lines([empty], []), ["a"]) is None
    (section,) = confounder_sections([empty], [])
    assert section.tables[0].rows[0][4] == "not estimable [1]"


def test_they_are_in_no_result_and_no_card_and_follow_the_tasks_in_short(tmp_path):
    plain = Evaluation(title="t", results=TASKS)
    data = Evaluation(title="t", results=TASKS, shown={"confounders": [site(), age()]})
    told, before = as_json(data), as_json(plain)
    assert [key for key in told if key not in before] == ["confounders"]
    assert {k: v for k, v in told.items() if k != "confounders"} | {"headline": 0} == before | {
        "headline": 0
    }
    *tasks, of_site, of_age = told["headline"]
    assert tasks == before["headline"]
    assert of_site.startswith("How well site is told from the embeddings (mean AUROC")
    assert "0.5 = not at all): before 0.900" in of_site
    assert "; after 0.600" in of_site
    assert "after" not in of_age  # not estimable
    assert 'id="confounders"' not in "".join(pages(plain))
    write_report(tmp_path / "report.html", data)
    files = ("report.html", "appendix.html")
    page = "".join((tmp_path / name).read_text(encoding="utf-8") for name in files)
    assert 'id="confounders"' in page
    assert "What else the embeddings tell" in page
    assert model_card(data).markdown() == model_card(plain).markdown()
    assert "site" not in (tmp_path / "results.csv").read_text(encoding="utf-8")
    assert len(json.loads((tmp_path / "report.json").read_text("utf-8"))["confounders"]) == 7


def test_no_section_without_confounders():
    assert confounder_sections([], TASKS) == ()
