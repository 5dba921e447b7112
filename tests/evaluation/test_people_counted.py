"""Events are people: whoever has several records counts once, in rows, gates and words."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest
from made_targets import targets_of
from read_pages import both_pages

from medmcl.evaluation import evaluate_task
from medmcl.evaluation.aspects.tasks.answers import how_sure, who
from medmcl.evaluation.aspects.tasks.calibration_figures import groups_shown
from medmcl.evaluation.metrics.calibration_curve import Calibration, calibration
from medmcl.evaluation.metrics.intervals import Resampling
from medmcl.evaluation.metrics.metric import NotEstimable
from medmcl.evaluation.protocol.evaluation import Evaluation
from medmcl.evaluation.protocol.evidence import risk_groups
from medmcl.evaluation.report import pictures
from medmcl.evaluation.report.page import write_report

VISITS, HELD = 5, 60
SPLIT = np.repeat(["train", "tuning", "held_out"], [120, 20, HELD]).astype(object)
PEOPLE = np.repeat(np.arange(len(SPLIT)), VISITS)


def cohort_of(kind, with_event, visits=VISITS):
    """Evaluate 60 held-out people of so many visits each; so many of them have the event."""
    rng = np.random.default_rng(8)
    y = np.zeros(len(SPLIT))
    y[:50] = y[120:128] = y[140 : 140 + with_event] = 1
    people = np.repeat(np.arange(len(y)), visits)
    x = (rng.normal(size=len(y)) + 1.5 * y)[people] + rng.normal(scale=0.2, size=len(people))
    days = np.where(y == 1, rng.integers(100, 700, len(y)), rng.integers(700, 1500, len(y)))
    if kind == "survival":
        values = np.stack([days, y], axis=1)[people]
        more = {"unit": "days", "horizons_years": (1.0, 3.0)}
    else:
        values, more = y[people], {"columns": ("bad",)}
    found = evaluate_task(
        {"ours": x[:, None], "noise": rng.normal(size=(len(people), 1))},
        targets_of(kind, values, name="bad", **more), SPLIT[people], people,
        protocol="cox" if kind == "survival" else "linear_probe", bootstrap_draws=100,
        dear_draws=20, shown=("ours",), baseline="noise",
    )  # fmt: skip
    data = Evaluation(title="t")
    data.add(found)
    by_year = int((days[140 : 140 + with_event] <= 365.25).sum())
    return found, data, by_year


def words(data, answer):
    return " ".join(one.text for one in answer(data))


def test_four_people_of_five_visits_are_four_events_and_decide_nothing():
    found, data, _ = cohort_of("binary", with_event=4)
    rows = [row for row in found.results if row.value is not None]
    assert {(row.n, row.subjects, row.events, row.non_events) for row in rows} == {(300, 60, 4, 56)}
    apart = [row for row in rows if row.versus]
    assert apart
    for row in apart:
        assert row.p_value is None
        assert row.untested == "too few events (<5) for a verdict"
    assert not any(row.value is not None for row in found.results if row.metric == "ici")
    assert all(isinstance(one.calibration, NotEstimable) for one in found.evidence)
    assert "60 held-out people were scored (300 records): bad (<5 events)" in words(data, who)
    assert "Few people decide: bad (<5 events)" in words(data, how_sure)


def test_of_a_survival_task_events_by_a_horizon_are_people():
    found, data, by_year = cohort_of("survival", with_event=36, visits=3)
    assert 0 < by_year < 36
    rows = {row.metric: row for row in found.results if row.method == "ours" and not row.versus}
    assert (rows["c_index"].n, rows["c_index"].events) == (180, 36)
    assert {row.events for name, row in rows.items() if name.endswith("at_1y")} >= {by_year}
    assert "60 held-out people were scored (180 records): bad (36 events)" in words(data, who)
    assert "Few people decide: bad (36 events)" in words(data, how_sure)
    one = found.evidence[0]
    assert one.followed == (180, 60, 36)
    assert one.calibration.events == one.decision.events == by_year


def test_figures_and_tables_say_which_count_is_of_records(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(pictures, "encode", lambda figure, **_: drawn.append(figure) or "data:")
    _, data, by_year = cohort_of("survival", with_event=36, visits=3)
    write_report(tmp_path / "report.html", data)
    said = [text.get_text() for one in drawn for axes in one.axes for text in axes.texts]
    for counts in (
        "36 events of 60 (180 records)",  # survival by predicted risk
        f"{by_year} events of 60 (180 records)",  # calibration
        f"{by_year} of 60 (180 records)",  # decision curve
    ):
        assert any(counts in text for text in said), counts
    assert any(text.startswith("risk ") for text in said)  # by a time, not a share of people
    labels = {text for one in drawn for axes in one.axes
              for text in axes.get_legend_handles_labels()[1]}  # fmt: skip
    assert "horizon of the scores" in labels
    text = both_pages(tmp_path)
    assert "180 records (36 people)" in text
    assert "180 (" not in text
    assert "observed risk by that time" in text
    assert re.search(r"over [\d.]+ to [\d.]+ days;", text)
    assert "Curves and bands are of records, as if each were independent; whoever has" in text


def test_whom_a_risk_group_counts_at_risk_are_subjects():
    rng = np.random.default_rng(0)
    followed = rng.exponential(3, 40)
    people = np.repeat(np.arange(40), VISITS)
    risk = np.repeat(rng.normal(size=40), VISITS)
    event = np.repeat(rng.random(40) < 0.5, VISITS)
    many = risk_groups(event, followed[people], risk, people=people)
    once = risk_groups(event[::VISITS], followed, risk[::VISITS])
    for ours, theirs in zip(many, once, strict=True):
        assert (ours.subjects, ours.events) == (theirs.n, theirs.events)
        assert ours.n == VISITS * theirs.n
        assert ours.curve.at_risk == theirs.curve.at_risk
        assert ours.curve.survival == pytest.approx(theirs.curve.survival)


def test_a_person_with_records_of_both_kinds_is_on_both_sides():
    rng = np.random.default_rng(1)
    y = (np.arange(len(PEOPLE)) % VISITS < 2).astype(float)  # two seizures of five records, all
    found = evaluate_task(
        {"ours": (rng.normal(size=len(y)) + y)[:, None], "noise": rng.normal(size=(len(y), 1))},
        targets_of("binary", y, columns=("bad",)), SPLIT[PEOPLE], PEOPLE, bootstrap_draws=50,
        dear_draws=20, baseline="noise",
    )  # fmt: skip
    row = next(row for row in found.results if row.versus and row.metric == "auroc")
    assert (row.subjects, row.events, row.non_events) == (HELD, HELD, HELD)
    assert row.p_value is not None


def test_a_number_of_nine_people_has_no_verdict_however_many_records():
    rng = np.random.default_rng(2)
    split = np.repeat(["train", "tuning", "held_out"], [40, 10, 9]).astype(object)
    people = np.repeat(np.arange(len(split)), VISITS)
    x = rng.normal(size=(len(people), 1))
    found = evaluate_task(
        {"ours": x, "noise": rng.normal(size=x.shape)}, targets_of("regression", x[:, 0]),
        split[people], people, bootstrap_draws=50, dear_draws=20, baseline="noise",
    )  # fmt: skip
    row = next(row for row in found.results if row.versus)
    assert row.deciding == (9, "people")
    assert row.p_value is None


def test_a_tenth_of_too_few_people_is_not_drawn():
    rng = np.random.default_rng(3)
    people = np.repeat(np.arange(24), 10)  # a tenth is 24 records of 2 or 3 people
    risk = np.clip(np.repeat(rng.uniform(0.1, 0.9, 24), 10) + rng.normal(0, 1e-3, 240), 0, 1)
    found = calibration(np.repeat(rng.random(24) < 0.5, 10), risk, Resampling(people, draws=4))
    assert isinstance(found, Calibration)
    sizes = Counter(group.subjects for group in found.groups)
    assert max(sizes) < 5 < min(group.n for group in found.groups)
    assert groups_shown(found) == []
