"""The section of paired choice: figure, table of differences, first lines, files."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from medmcl.evaluation import compare_choices
from medmcl.evaluation.aspects.paired_choice.figures import choice_differences, choice_pictures
from medmcl.evaluation.metrics.intervals import Resampling
from medmcl.evaluation.protocol.evaluation import Evaluation
from medmcl.evaluation.report.page import pages, write_report
from medmcl.evaluation.report.sections import sections_of

PAIRS = 90


def rows_of(attributes, task="cells", later=("better", "<b>best</b>")):
    """A base that sees nothing and later models that see more and more."""
    pair = np.repeat(np.arange(PAIRS), 2)
    about = np.array([f"kind {i % attributes:02d}" for i in pair])
    image, flat = np.eye(2 * PAIRS), np.tile(np.repeat(np.eye(PAIRS), 2, axis=0), (1, 2))
    models = {"base": (flat, flat)}
    for share, name in enumerate(later, start=1):
        text = image.copy()
        wrong = np.flatnonzero(pair % (share + 1) == 0)
        text[wrong] = text[wrong ^ 1]
        models[name] = (image, text)
    return compare_choices(models, pair, about, task=task, resampling=Resampling(draws=100))


def test_every_attribute_and_model_is_in_figure_and_table():
    rows = rows_of(9)
    (picture,) = choice_pictures(rows)
    assert picture.title == "Paired choice: cells"
    assert len(picture.rows) == 3 * (2 + 9)
    assert [row[0] for row in picture.rows[::3][:3]] == [
        "all pairs",
        "mean over attributes",
        "kind 00",
    ]
    assert {len(row) for row in picture.rows} == {len(picture.header)}
    assert "chance 0.25" in picture.alt
    assert "all pairs, better: 0.500" in picture.alt
    assert "chance" not in {row[1] for row in picture.rows}
    (table,) = choice_differences(rows)
    assert len(table.rows) == 2 * (2 + 9)
    assert table.rows[0][:4] == ("cells", "all pairs", "better minus base",
                                 next(r.shown for r in rows if r.versus))  # fmt: skip
    assert table.rows[0][4] == "better"


def test_of_many_attributes_the_first_are_drawn_and_all_are_told():
    (picture,) = choice_pictures(rows_of(45))
    assert "23 more attributes are in the table" in picture.aid
    assert len(picture.rows) == 3 * 47


def test_each_set_of_pairs_has_a_figure_and_one_model_has_no_differences():
    one = rows_of(2, later=())
    assert not choice_differences(one)[0].rows  # a section leaves it out
    titles = [p.title for p in choice_pictures([*one, *rows_of(2, task="more")])]
    assert titles == ["Paired choice: cells", "Paired choice: more"]
    assert choice_pictures([]) == []


@pytest.fixture
def data():
    return Evaluation(title="Pairs", results=rows_of(3))


def test_the_section_stands_beside_retrieval_and_not_among_tasks(data):
    keys = [one.key for one in sections_of(data)]
    assert "choices" in keys
    assert data.task_rows == []
    assert data.rows_of("retrieval") == []
    html = "".join(pages(data))
    assert 'id="results"' not in html
    assert "Paired choice cells, 90 pairs (chance 0.25): base 0.000" in html
    assert "<b>best" not in html
    assert "choices" not in [one.key for one in sections_of(Evaluation(title="None"))]


def test_rows_are_in_json_and_csv(data, tmp_path):
    write_report(tmp_path / "report.html", data)
    told = json.loads((tmp_path / "report.json").read_text())
    assert len(told["paired_choice"]) == len(data.results)
    with (tmp_path / "results.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == len(data.results)
