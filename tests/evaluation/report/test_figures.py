from __future__ import annotations

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
from made_experts import CURVES
from made_report import (
    binary_evidence,
    full_report,
    result_rows,
    subgroup_rows,
    survival_evidence,
)
from matplotlib.lines import Line2D
from matplotlib.text import Text

from medmcl.evaluation.aspects.retrieval import figures as retrieval_figures
from medmcl.evaluation.aspects.tasks import result_figures
from medmcl.evaluation.aspects.tasks.calibration_figures import calibration_plot
from medmcl.evaluation.aspects.tasks.decision_figures import decision_curves
from medmcl.evaluation.aspects.tasks.panels import looks
from medmcl.evaluation.aspects.tasks.subgroup_figures import subgroup_forest
from medmcl.evaluation.aspects.tasks.survival_figures import risk_group_curves, risk_rows
from medmcl.evaluation.aspects.tasks.target_figures import targets_overview
from medmcl.evaluation.metrics.metric import NotEstimable
from medmcl.evaluation.metrics.sampled import Interval
from medmcl.evaluation.metrics.survival.gridded import gridded
from medmcl.evaluation.models.competing import cumulative_incidence
from medmcl.evaluation.protocol.evaluation import Evaluation
from medmcl.evaluation.protocol.evidence import RiskGroup, risk_groups
from medmcl.evaluation.report import figures, pictures
from medmcl.evaluation.report.labelled import people_of, share_of
from medmcl.evaluation.report.page import pages
from medmcl.evaluation.report.pictures import (
    TALLEST,
    distinct,
    mark,
    shorten,
    spoken,
)
from medmcl.evaluation.report.training import embedding_figures, geometry_figures

METHODS = ("ours", "scratch", "covariates", "bag of codes", "majority", "covariates + ours")
LONG = "a very long name of a method that nobody could print in a column without cutting it"


def whole_report(methods=METHODS):
    rng = np.random.default_rng(0)
    report = full_report(methods, n=150)
    tasks = [f"task number {k}" for k in range(8)]
    return dataclasses.replace(
        report,
        results=[
            *report.results,
            *result_rows(tasks, methods),
            *result_rows(["phe"], methods, "multilabel", targets=[f"t{k}" for k in range(40)]),
            *(dataclasses.replace(row, task="retrieval", target=way, metric=metric, method=method,
                                kind="retrieval", versus="")
            for row in report.results[:1] for way in ("ecg → cmr", "cmr → ecg")
            for metric in ("recall@1", "recall@10") for method in (methods[0], "chance")),
        ],
        curves={
            f"stage-{k}": [
                {"step": s, "split": split, "loss": 2.0 / (s + 1), "effective_rank/ecg": 3.0 + s,
                 "uniformity/cmr": -1.0, "alignment/ecg~cmr": 1.0}
                for s in range(20) for split in ("train", "tuning")
            ]
            for k in range(14)
        } | CURVES,
        embedding_map={"points": rng.normal(size=(80, 4)), "modality": "ecg",
                       "colours": {"mi": ["yes", "no"] * 40, "ef": rng.normal(size=80)}},
        shown={"maps": [(rng.random((6, 16, 16)), rng.normal(size=(6, 4, 4)))]},
        missingness=pd.DataFrame(
            [[bool(k >> i & 1) for i in range(6)] for k in range(40) for _ in range(6)],
            columns=[f"modality {i}" for i in range(6)],
        ),
    )  # fmt: skip


def test_figures_are_legible_in_print_and_nothing_is_cut_off(drawn):
    """At the size of print: 8 points or more, no wider or taller than a page, inside the paper."""
    "".join(pages(whole_report((*METHODS, LONG, f"{LONG} again"))))
    assert len(drawn) >= 14
    assert_legible(drawn)


def test_a_panel_of_one_column_of_print_holds_its_longest_second_line(drawn):
    one = survival_evidence("death", "ours")
    wide = Interval(value=4.786, low=2.081, high=10.826, n=1378)
    many = dataclasses.replace(one.calibration, n=1378, subjects=1257, events=416, slope=wide)
    assert calibration_plot([dataclasses.replace(one, calibration=many)], "ours")
    assert_legible(drawn)


def assert_legible(drawn):
    for figure in drawn:
        width, height = figure.get_size_inches()
        assert width <= 7.11
        assert height <= TALLEST + 0.35
        figure.draw_without_rendering()
        paper = figure.bbox
        for text in figure.findobj(Text):
            if not text.get_visible() or not text.get_text().strip():
                continue
            if text.axes is not None and not text.axes.axison and text.axes.get_title() == "":
                continue
            assert text.get_fontsize() >= 8, text.get_text()
            box = text.get_window_extent()
            if box.width == 0 or text.get_clip_on():
                continue
            inside = (box.x0 >= paper.x0 - 2 and box.x1 <= paper.x1 + 2
                      and box.y0 >= paper.y0 - 2 and box.y1 <= paper.y1 + 2)  # fmt: skip
            assert inside, (text.get_text(), box, paper)


@pytest.mark.parametrize("figure_of", [calibration_plot, decision_curves])
def test_methods_differ_by_more_than_colour(figure_of, drawn):
    evidence = [binary_evidence("mi", m, 150, seed=k) for k, m in enumerate(METHODS[:5])]
    assert figure_of(evidence, "ours") is not None
    lines = [
        line for line in drawn[0].axes[0].get_lines() if len(line.get_xdata()) > 15
        and line.get_color() not in ("#777777", "black")
    ]  # fmt: skip
    assert len({line.get_color() for line in lines}) == 5
    assert len({repr(line._unscaled_dash_pattern) for line in lines}) == 5


def test_up_to_eight_lines_differ_by_dash_and_marker_each_alone():
    """In the legend of several panels, and where a figure draws all: ROC curves, modalities."""
    methods = [f"method {k}" for k in range(8)]
    lines = [Line2D([], [], **one) for one in looks(methods).values()]
    for told in (Line2D.get_color, Line2D.get_marker, lambda x: repr(x._unscaled_dash_pattern)):
        assert len({told(line) for line in lines}) == 8


def test_risk_groups_differ_by_dash_and_say_who_is_at_risk(drawn):
    picture = risk_group_curves([survival_evidence("death", "ours")], "ours")
    lines = [line for line in drawn[0].axes[0].get_lines() if len(line.get_xdata()) > 50]
    assert len({line.get_linestyle() for line in lines}) == 3
    texts = [text.get_text() for text in drawn[0].axes[1].texts]
    assert "at risk" in texts
    assert "100" in texts
    assert "survival 0." in picture.alt
    assert picture.narrow


def test_where_events_compete_groups_rise_and_say_how_they_were_estimated(drawn):
    rng = np.random.default_rng(0)
    risk, time = rng.normal(size=300), rng.exponential(3, 300)
    codes = rng.integers(0, 3, 300)
    one = dataclasses.replace(
        survival_evidence("death", "ours"), horizon=2.0, unit="years",
        risk_groups=risk_groups(codes, time, risk),
    )  # fmt: skip
    picture = risk_group_curves([one], "ours")
    axes = drawn[0].axes[0]
    lines = [line for line in axes.get_lines() if len(line.get_xdata()) > 50]
    assert axes.get_ylabel() == "incidence"
    for line in lines:
        seen = line.get_ydata()[~np.isnan(line.get_ydata())]
        assert seen[0] < 0.1
        assert (np.diff(seen) >= 0).all()
    assert "cumulative incidence (Aalen-Johansen)" in picture.alt
    assert "Kaplan-Meier" not in picture.alt
    assert "incidence 0." in picture.alt
    group = one.risk_groups[0]
    inside = np.argsort(risk, kind="stable")[: group.n]
    known = cumulative_incidence(codes[inside], time[inside], np.array([2.0]))[0]
    assert f"incidence {known:.3f} at 2 years" in picture.alt
    rows = risk_rows(one)
    assert {"incidence"} == {key for key in rows[3] if key in ("incidence", "survival")}


def test_gridded_curves_agree_with_the_steps_they_come_from_while_enough_are_followed():
    group = survival_evidence("death", "ours").risk_groups[0]
    times = np.linspace(0, group.curve.times[-1] + 1, 57)
    found = gridded(group.curve, times)
    own = list(zip(group.curve.times, group.curve.survival, group.curve.at_risk, strict=True))
    for k, time in enumerate(times):
        followed = next((n for t, _, n in own if t >= time), 0)
        assert found.at_risk[k] == followed
        if followed < 5:
            assert math.isnan(found.values[k])
            continue
        before = [s for t, s, _ in own if t <= time]
        assert found.values[k] == (before[-1] if before else 1.0)
    assert found.at_risk[0] == group.n
    assert math.isnan(found.values[-1])


def test_figures_without_anything_to_show_are_none():
    lost = NotEstimable("one class")
    one = dataclasses.replace(
        binary_evidence("mi", "ours"), calibration=lost, decision=lost, histogram=None
    )
    group = RiskGroup(name="everyone", low=0.1, high=0.1, n=9, subjects=9, events=0, curve=lost)
    assert calibration_plot([one], "ours") is None
    assert decision_curves([one], "ours") is None
    assert risk_group_curves([dataclasses.replace(one, risk_groups=(group,))], "ours") is None
    assert subgroup_forest([], "ours") is None
    assert targets_overview([], "ours") is None
    assert result_figures.task_forest([]) is None
    assert result_figures.gain_forest([], "ours") is None
    assert retrieval_figures.retrieval_bars([]) is None
    assert figures.cohort_flow([]) is None
    assert figures.missingness_patterns(pd.DataFrame()) is None
    assert figures.loss_curves({"a": [{"step": 1, "loss": math.nan}]}) is None
    assert geometry_figures.geometry_curves([]) is None
    assert embedding_figures.embedding_map({}) is None


def test_a_mixture_of_estimable_and_not_draws_one_and_tables_both():
    lost = NotEstimable("one class")
    good = binary_evidence("mi", "ours")
    bad = dataclasses.replace(binary_evidence("af", "ours"), calibration=lost, decision=lost)
    for picture in (calibration_plot([good, bad], "ours"), decision_curves([good, bad], "ours")):
        assert any("one class" in row for row in picture.rows)
        assert picture.narrow


def test_the_highlighted_method_is_the_one_a_panel_is_about():
    evidence = [binary_evidence("mi", m, seed=k) for k, m in enumerate(("a", "b"))]
    picture = calibration_plot(evidence, "b")
    slope = evidence[1].calibration.slope.value
    assert f"slope {slope:.3f}" in picture.alt


def test_many_panels_are_limited_with_a_note():
    evidence = [binary_evidence(f"t{k}", "ours", 100, seed=k) for k in range(9)]
    for picture in (calibration_plot(evidence, "ours"), decision_curves(evidence, "ours")):
        assert "The first 6; 3 others are in the table." in picture.aid
        assert {row[0] for row in picture.rows} == {f"t{k}" for k in range(9)}


def test_subgroups_draw_the_suppressed_by_name_without_a_number(drawn):
    picture = subgroup_forest(subgroup_rows("mi", "ours"), "ours")
    axes = drawn[0].axes[0]
    labels = [label.get_text().strip() for label in axes.get_yticklabels()]
    place = labels.index("Ålesund")
    said = [t.get_text() for t in axes.texts if t.get_position()[1] == place]
    assert said == ["too few subjects to show", "-"]
    assert "site Ålesund: too few subjects to show" in picture.alt or "more" in picture.alt


def test_a_task_without_a_value_in_any_group_has_no_panel(drawn):
    shown = subgroup_rows("mi", "ours")
    few = {"value": None, "low": None, "high": None, "note": "not estimable"}
    hidden = [dataclasses.replace(row, **few) for row in subgroup_rows("af", "ours")]
    assert subgroup_forest(hidden, "ours") is None
    picture = subgroup_forest([*hidden, *shown], "ours")
    assert len([axes for axes in drawn[0].axes if axes.axison]) == 1
    assert "af" not in picture.alt


def test_tall_figures_are_parted_into_images_that_fit_a_page():
    assert pictures.pages([3.0, 3.0, 3.0]) == [range(2), range(2, 3)]
    assert pictures.pages([20.0, 1.0]) == [range(1), range(1, 2)]
    assert pictures.pages([1.0]) == [range(1)]
    rows = [row for k in range(5) for row in subgroup_rows(f"t{k}", "ours", sites=20)]
    picture = subgroup_forest(rows, "ours")
    assert len(picture.further) == 4
    html = "".join(pages(Evaluation(title="t", results=result_rows(["mi"], ["a", "b"]))))
    assert html.count("<img") == html.count("alt=")


def test_names_are_cut_in_the_middle_and_stay_apart():
    assert shorten("short") == "short"
    assert len(shorten(LONG)) == 34
    labels = distinct([f"{LONG} {k}" for k in "ab"] + [LONG], 20)
    assert len(set(labels.values())) == 3
    assert all(len(label) <= 20 for label in labels.values())
    assert spoken("Lead", []) == "Lead."
    assert spoken("Lead", [str(k) for k in range(10)]).endswith("7; and 2 more.")


def test_forests_of_methods_with_long_protocols_do_not_collapse(drawn):
    rows = result_rows(["mi", "af"], ["MDM + contrastive", "covariates"])
    crossed = "linear_probe, 5 x 5-fold by subject"
    rows = [dataclasses.replace(row, protocol=crossed) for row in rows]
    tuned = dataclasses.replace(rows[0], method="fine-tuned", protocol="fine_tune", versus="")
    picture = result_figures.task_forest([*rows, tuned])
    assert picture is not None
    labels = [label.get_text() for label in drawn[0].axes[0].get_yticklabels()]
    assert mark(8) != mark(0)  # where colours start again
    assert labels == ["MDM + contrastive", "covariates", "fine-tuned"]  # the run's own names
    assert drawn[0].axes[0].get_position().width > 0.3


def recalls(value):
    row = dataclasses.replace(result_rows(["x"], ["mmcl"])[0], kind="retrieval", metric="recall@1")
    found = dataclasses.replace(row, target="ecg → cmr", value=value, low=value / 2, high=2 * value)
    chance = dataclasses.replace(found, method="chance", value=value / 9, low=None, high=None)
    return [found, chance]


@pytest.mark.parametrize(("value", "top"), [(0.01, 0.023), (0.48, 1.02)])
def test_low_recall_fills_the_axis_and_high_recall_never_leaves_it(drawn, value, top):
    assert retrieval_figures.retrieval_bars(recalls(value)) is not None
    assert drawn[0].axes[0].get_ylim() == pytest.approx((0, top))


def test_a_measure_that_was_never_taken_has_no_empty_axes(drawn):
    taken = [{"stage": "mdm", "step": s, "modality": "ecg", "uniformity": -s} for s in (1, 2)]
    picture = geometry_figures.geometry_curves([*taken, {"stage": "mdm", "alignment": math.nan}])
    assert [axes.get_title("left").strip() for axes in drawn[0].axes] == ["uniformity"]
    assert picture.header == ("stage", "step", "modality", "uniformity")
    assert geometry_figures.geometry_curves([{"stage": "mdm", "alignment": math.nan}]) is None


def test_a_share_of_the_labels_says_how_many_people_it_is(report, drawn):
    rows = result_rows(["mi"], ["ours", "scratch"], metrics=("auroc",))
    rows = [dataclasses.replace(row, train_subjects=430, train_events=90) for row in rows]
    some = {"ours": (43, 12), "scratch": (41, 8)}
    rows += [
        dataclasses.replace(row, label_fraction=0.1, train_subjects=some[row.method][0],
                            train_events=some[row.method][1])
        for row in rows
    ]  # fmt: skip
    first, appendix = pages(dataclasses.replace(report, results=rows))
    assert "10 % (43 people, 12 events)" in appendix
    assert "10 % (41 people, 8 events)" in appendix
    assert (
        "fitted on 430 people, 90 events; with 10 % of the labels (43 people, 12 events) " in first
    )
    few = [dataclasses.replace(row, label_fraction=0.01, train_subjects=12, train_events=2)
           for row in rows[:2]]  # fmt: skip
    first, appendix = pages(dataclasses.replace(report, results=[*rows, *few]))
    assert "1 % (12 people, &lt;5 events)" in appendix
    assert "with 10 % of the labels (43 people, 12 events) " in first
    assert "1 % of the labels" not in first
    tenth = [row for row in rows if row.label_fraction == 0.1]
    assert share_of(tenth) == "10 % labels (41 to 43 people, 8 to 12 events)"
    tuned = [dataclasses.replace(row, tuning_subjects=60) for row in tenth]
    assert share_of(tuned) == "10 % labels (41 to 43 people, 8 to 12 events; tuned on 60)"
    assert share_of([dataclasses.replace(tuned[0], label_fraction=1.0)]).endswith("events)")
    headings = [label.get_text() for label in drawn[0].axes[0].get_yticklabels()]
    assert not headings or share_of(tenth) in [
        label.get_text() for f in drawn for a in f.axes for label in a.get_yticklabels()
    ]
    assert people_of([dataclasses.replace(rows[0], train_subjects=3)]) == " (<5 people, 90 events)"
    assert people_of([dataclasses.replace(rows[0], train_subjects=None, train_events=None)]) == ""
    assert share_of([dataclasses.replace(rows[0], train_subjects=0)]) == "no labels"


def test_cells_of_a_wide_table_may_break(both):
    """Twelve columns that may not break are wider than a page of 1,000 pixels, and were cut."""
    wide = [part for part in both.split("<table")[1:] if part.count('<th scope="col"') > 6]
    assert wide
    assert all(part.startswith(' class="wide"') for part in wide)
    assert "table.wide td.short { white-space: normal; }" in both
