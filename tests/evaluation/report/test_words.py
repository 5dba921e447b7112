import pytest
from made_report import one_row

from medmcl.evaluation.protocol.results import NOBODY_TOLD
from medmcl.evaluation.report.words import (
    about_what,
    counts_shown,
    listed,
    measured,
    metric_name,
    p_shown,
    span_name,
    verdict,
)


@pytest.mark.parametrize(
    ("time", "unit", "said"),
    [
        (365.25, "days", "1 year"),
        (3652.5, "days", "10 years"),
        (182.625, "days", "0.5 years"),
        (1000, "days", "1,000 days"),
        (5, "years", "5 years"),
        (2.5, "", "2.5"),
    ],
)
def test_spans_of_time(time, unit, said):
    assert span_name(time, unit) == said


def test_tasks_and_metrics_are_named_as_people_write_them():
    assert about_what("mi", "mi") == about_what("mi", "") == "mi"
    assert about_what("phe", "macro") == "phe: mean over targets"
    assert about_what("phe", "I21") == "phe: I21"
    assert measured("r2", "macro") == "mean R²"
    assert measured("r2", "ef") == "R²"
    assert metric_name("auc_at_5y") == metric_name("auc_at_5_years") == "AUC at 5 years"
    assert metric_name("brier_at_1y") == "Brier score at 1 year"
    assert metric_name("observed_expected_at_1y") == "observed / expected at 1 year"
    assert metric_name("net_benefit_at_10y") == "net benefit at 10 years"
    assert (p_shown(None), p_shown(0.0004), p_shown(0.25)) == ("-", "<0.001", "0.250")


def test_counts_with_events_but_not_of_a_mean():
    assert counts_shown(1200, None) == "1,200"
    assert counts_shown(1200, 31, "mi") == "1,200 (31)"
    assert counts_shown(1200, 1200, "macro") == "1,200"


@pytest.mark.parametrize(
    ("between", "said"),
    [(", ", "a, b, and 2 more"), ("; ", "a; b; and 2 more"), (" and ", "a and b and 2 more")],
)
def test_names_beyond_the_most_are_counted_once_said(between, said):
    assert listed(["a", "b", "c", "d"], 2, between) == said
    assert listed(["a", "b"], 2, between) == between.join("ab")


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({}, ", better"),
        ({"events": 9}, ", too few events (9) for a verdict"),
        ({"events": 3}, ", too few events (<5) for a verdict"),
        ({"events": 43}, ", too few without the event (7) for a verdict"),
        ({"events": 43, "kind": "survival"}, ", better"),
        ({"events": 43, "target": "macro"}, ", better"),
        ({"events": None, "n": 9}, ", too few people (9) for a verdict"),
        ({"events": None, "n": 9, "kind": "attack"}, ", better"),
        ({"split": "cross-validation"}, ""),
        ({"note": f"x; other: {NOBODY_TOLD}"}, f", ahead, but other: {NOBODY_TOLD}"),
        ({"note": f"m: {NOBODY_TOLD}", "direction": "lower"}, f", behind, but m: {NOBODY_TOLD}"),
    ],
)
def test_a_verdict_needs_ten_who_decide_and_people_whom_no_fit_shares(about, said):
    assert verdict(one_row(versus="other", value=0.3, low=0.2, high=0.4, **about)) == said


@pytest.mark.parametrize(
    ("p", "said"), [(0.062, "no clear difference"), (0.05, "better"), (None, "better")]
)
def test_a_verdict_needs_the_test_to_agree_with_the_interval(p, said):
    row = one_row(versus="other", value=0.09, low=0.001, high=0.174, events=30, n=90, p_value=p)
    assert verdict(row) == f", {said}"
