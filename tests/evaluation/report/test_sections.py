from __future__ import annotations

import dataclasses
import re

import pytest
from made_report import (
    binary_evidence,
    one_row,
    result_rows,
    subgroup_rows,
    survival_evidence,
)
from read_pages import page_text

from medmcl.data.loading import worker_pool
from medmcl.evaluation.aspects.tasks.tables import discrimination_tables, not_shown
from medmcl.evaluation.metrics.metric import NotEstimable
from medmcl.evaluation.protocol.evaluation import Evaluation
from medmcl.evaluation.protocol.evidence import FittedOn, RiskGroup
from medmcl.evaluation.report.page import pages
from medmcl.evaluation.report.sections import sections_of

KEYS = [
    "cohort", "missingness", "results", "calibration", "decisions", "survival", "subgroups",
    "comparisons", "ledger", "tripod",
]  # fmt: skip


def by_key(data):
    return {section.key: section for section in sections_of(data)}


def test_every_section_is_there_in_order_with_its_anchor(sections, both):
    assert list(sections) == KEYS
    for key in KEYS:
        assert f'<section id="{key}"' in both
        assert f'href="#{key}"' in both


def test_sections_that_copies_draw_are_those_of_one_process(report, monkeypatch):
    alone, shared, in_copies = sections_of(report), [], worker_pool._in_copies
    monkeypatch.setattr(worker_pool, "_WORTH_COPIES", 0.0)
    monkeypatch.setattr(
        worker_pool, "_in_copies", lambda *given: shared.append(1) or in_copies(*given)
    )
    with worker_pool.worker_pool(2):
        assert sections_of(report) == alone
    assert shared


def test_every_figure_has_an_aid_an_alternative_text_with_numbers_and_its_table(sections):
    for section in sections.values():
        for picture in section.pictures:
            assert picture.aid.endswith(".")
            assert len(picture.aid) > 40
            assert re.search(r"\d", picture.alt), picture.title
            assert picture.rows
            assert {len(row) for row in picture.rows} == {len(picture.header)}


def test_every_column_of_every_table_has_a_scoped_name_and_no_cell_is_nan(both):
    html = page_text(both)
    heads = re.findall(r"<thead>.*?</thead>", html, re.DOTALL)
    assert heads
    for head in heads:
        assert re.findall(r"<th(?!ead)[^>]*>", head) == ['<th scope="col">'] * head.count("<th ")
        assert not re.search(r"<th(?!ead)[^>]*></th>", head)
    assert '<th scope="row"' in html
    assert html.count('alt=""') == 0
    cells = re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", html)
    assert not [cell for cell in cells if re.search(r"\b(nan|inf|None)\b", cell)]


def test_reasons_stand_where_nothing_could_be_computed():
    lost = NotEstimable("nobody had the outcome")
    one = dataclasses.replace(
        binary_evidence("mi", "ours"), calibration=lost, decision=lost, histogram=None
    )
    group = RiskGroup(name="everyone", low=0.0, high=1.0, n=20, subjects=20, events=0, curve=lost)
    dead = dataclasses.replace(
        survival_evidence("death", "ours"), calibration=lost, decision=lost, d_calibration=lost,
        risk_groups=(group,),
    )  # fmt: skip
    first, appendix = pages(Evaluation(title="t", evidence=[one, dead]))
    curves = "Calibration curve and decision curve of mi, death: nobody had the outcome."
    assert appendix.count(curves) == 1
    assert (
        "D-calibration and survival curve (everyone) of death: nobody had the outcome." in appendix
    )
    assert "nobody had" not in first
    thirds = tuple(dataclasses.replace(group, name=f"{name} third") for name in ("low", "high"))
    parted = dataclasses.replace(dead, risk_groups=thirds)
    assert not_shown(Evaluation(title="t", evidence=[parted])) == [
        "Calibration curve and decision curve and D-calibration and survival curves (low third, "
        "high third) of death: nobody had the outcome."
    ]


def test_cells_without_a_value_point_to_their_reason():
    rows = [
        one_row(),
        one_row(method="b", value=None, low=None, high=None, note="one class only"),
        one_row(method="c", value=None, low=None, high=None, note="too few"),
        one_row(method="c", metric="brier", direction="lower", value=None, low=None, high=None,
            note="one class only"),
    ]  # fmt: skip
    (table,) = discrimination_tables(rows)
    assert table.header[-2:] == ("AUROC ↑", "Brier score ↓")
    assert [line[5] for line in table.rows] == [
        "0.800 (0.700 to 0.900)", "not estimable [1]", "not estimable [2]"
    ]  # fmt: skip
    assert table.rows[2][6] == "not estimable [1]"
    assert table.notes == ("[1] one class only", "[2] too few")
    assert "[1] one class only" in "".join(pages(Evaluation(title="t", results=rows)))


def test_further_metrics_have_a_line_each_with_their_direction():
    names = ["auroc", "auprc", "brier", "accuracy", "calibration_slope"]
    rows = [
        one_row(metric=name, direction="target" if "slope" in name else "higher") for name in names
    ]
    wide, further = discrimination_tables(rows)
    assert len(wide.header) - 5 == 3
    assert [line[5] for line in further.rows] == ["accuracy ↑", "calibration slope ◎"]
    assert "◎ the nearer to its ideal" in further.aid
    assert further.folded == "2 lines"
    shown = {cell for table in (wide, further) for line in table.rows for cell in line}
    assert {"0.800 (0.700 to 0.900)"} <= shown


def test_differences_are_turned_to_the_method_of_the_report_and_read_aloud():
    rows = [
        one_row(), one_row(method="b"),
        one_row(method="b", versus="ours", value=-0.1, low=-0.2, high=-0.05, p_value=0.0001),
        one_row(method="b", versus="ours", metric="brier", direction="lower", value=-0.1, low=-0.2,
            high=0.05),
    ]  # fmt: skip
    data = Evaluation(title="t", results=rows, compared={"b": {"recipe": "ecg", "seed": 1}})
    runs, table = by_key(data)["comparisons"].tables
    assert runs.header == ("run", "recipe", "seed")
    assert runs.rows == (("b", "ecg", "1"),)
    cells = dict(zip(table.header, table.rows[0], strict=True))
    assert cells["difference"] == "ours minus b"
    assert cells["value (95 % interval)"] == "+0.100 (+0.050 to +0.200)"
    assert (cells["reading"], cells["p"]) == ("better", "<0.001")
    assert table.rows[1][table.header.index("reading")] == "no clear difference"
    assert table.rows[1][table.header.index("p")] == "-"


def test_the_ledger_shouts_when_held_out_was_used():
    fitted = (
        FittedOn(what="standardisation of ecg", splits=("train",), subjects=10),
        FittedOn(what="threshold", splits=("tuning", "held_out"), labels=True, task="mi"),
    )
    html = "".join(pages(Evaluation(title="t", fitted=fitted)))
    assert "tuning + held_out (peeks!)" in html
    assert "1 of these used held_out: results that depend on them are no test." in html
    clean = "".join(pages(Evaluation(title="t", fitted=fitted[:1])))
    assert "Nothing here used held_out." in clean


def test_d_calibration_is_on_the_page(report, sections):
    (table,) = sections["calibration"].tables
    found = next(t for t in report.evidence if t.kind == "survival").d_calibration
    assert f"{found.statistic:.1f}" in table.rows[0]


@pytest.mark.parametrize(
    "kept",
    [("binary",), ("survival",), ()],
    ids=["no survival", "only survival", "no outcomes"],
)
def test_reports_of_part_of_the_outcomes_render(kept, report):
    evidence = [t for t in report.evidence if t.kind in kept]
    results = [r for r in report.results if r.kind in kept]
    data = dataclasses.replace(report, evidence=evidence, results=results)
    html = "".join(pages(data))
    assert ('<section id="survival"' in html) == ("survival" in kept)
    assert ('<section id="decisions"' in html) == bool(kept)
    assert "TRIPOD+AI" in html


def test_unicode_and_hostile_names_stand_as_they_are():
    name = 'Ünïcode 心臓 <b>"x"</b> & $\\alpha$'
    data = Evaluation(
        title=name,
        results=result_rows([name], [name, "b"]),
        evidence=[binary_evidence(name, name), survival_evidence(f"{name} 2", name)],
        subgroups=subgroup_rows(name, name),
        fitted=[FittedOn(what=name, splits=("train",), note=name)],
    )
    html = page_text("".join(pages(data)))
    assert "<b>&#34;" not in html
    assert '<b>"x"' not in html
    assert "心臓 &lt;b&gt;" in html


def test_two_hundred_phenotypes_are_drawn_in_part_with_a_note():
    targets = [f"phecode {k}" for k in range(200)]
    rows = result_rows(["phe"], ["ours", "scratch"], "multilabel", ("auroc",), targets=targets)
    section = by_key(Evaluation(title="t", results=rows))["results"]
    overview = next(p for p in section.pictures if p.title == "Every target")
    assert "110 more are in the table." in overview.aid
    assert len(overview.rows) == 200
    (table,) = section.tables
    assert len(table.rows) == 400
    assert table.folded
