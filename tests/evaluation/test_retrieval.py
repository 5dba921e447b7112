from __future__ import annotations

import numpy as np
import pytest

from medmcl.evaluation import ranks, recall_at_k, retrieval
from medmcl.evaluation.aspects.retrieval.measure import _weighted_median, chance_recall
from medmcl.evaluation.metrics.intervals import Resampling


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


RNG = np.random.default_rng(0)
A = unit(RNG.normal(size=(40, 8)))
B = unit(A + 0.6 * RNG.normal(size=(40, 8)))


def test_ranks_equal_slow_loops_with_equal_items():
    identity = np.arange(40) // 2
    slow = []
    for i in range(40):
        scores = [A[i] @ B[j] for j in range(40)]
        best = max(scores[j] for j in range(40) if identity[j] == identity[i])
        wrong = [j for j in range(40) if identity[j] != identity[i]]
        slow.append(1 + sum(scores[j] >= best for j in wrong))
    assert ranks(A, B, identity, identity).tolist() == slow


def test_blocks_do_not_change_ranks(monkeypatch):
    from medmcl.evaluation import retrieval as module

    whole = ranks(A, B)
    monkeypatch.setattr(__import__("sys").modules[ranks.__module__], "BLOCK", 90)
    assert (ranks(A, B) == whole).all()
    assert module is not None


def test_perfect_partners_are_always_first():
    assert recall_at_k(ranks(A, A), 1) == 1.0


def test_a_collapsed_embedding_scores_nothing():
    flat = np.ones((20, 4)) / 2
    assert recall_at_k(ranks(flat, flat), 10) == 0.0


def test_equal_items_count_as_hits():
    text = np.repeat(unit(RNG.normal(size=(5, 8))), 8, axis=0)
    own = ranks(text, text)
    equal = ranks(text, text, np.arange(40) // 8, np.arange(40) // 8)
    assert recall_at_k(own, 1) == 0.0
    assert recall_at_k(equal, 1) == 1.0


def test_a_query_without_a_right_answer_is_refused():
    with pytest.raises(ValueError, match="identity"):
        ranks(A, B, np.arange(40), np.arange(40) + 1)


def test_chance_equals_a_simulation():
    right = np.array([1, 3, 10])
    draws = np.array([[np.random.default_rng(s).permutation(20)[:5].tolist()] for s in range(4000)])
    hit = [(draws[:, 0] < m).any(axis=1).mean() for m in right]
    assert chance_recall(right, 20, 5) == pytest.approx(np.mean(hit), abs=0.02)
    assert chance_recall(np.array([20]), 20, 5) == 1.0
    assert chance_recall(np.array([1]), 3, 10) == 1.0


def test_the_weighted_median_is_the_median_of_copies():
    rank, weights = RNG.integers(1, 30, 25), RNG.integers(0, 3, (25, 10))
    expected = [np.median(np.repeat(rank, column)) for column in weights.T]
    assert _weighted_median(rank, weights).tolist() == expected


def test_rows_go_both_ways_with_intervals_and_chance():
    rows = retrieval(A, B, names=("ecg", "cmr"), resampling=Resampling(draws=50))
    assert {row.target for row in rows} == {"ecg → cmr", "cmr → ecg"}
    ours = [row for row in rows if row.method == "model"]
    assert {row.metric for row in ours} == {"recall@1", "recall@5", "recall@10", "median_rank"}
    assert all(row.low <= row.value <= row.high for row in ours)
    chance = [row for row in rows if row.method == "chance" and row.metric == "recall@5"]
    assert all(row.value == pytest.approx(5 / 40) for row in chance)


def test_each_side_may_have_its_own_equal_items():
    report = np.array([1, *[0] * 39])
    rows = retrieval(
        A, B, names=("ecg", "report"), identity=(None, report), resampling=Resampling(draws=20)
    )
    values = {(r.target, r.metric): r.value for r in rows if r.method == "model"}
    assert values["ecg → report", "recall@1"] >= 39 / 40
    assert values["report → ecg", "recall@1"] < 1.0


def test_no_rows_are_stated():
    rows = retrieval(A[:0], B[:0], resampling=Resampling(draws=10))
    assert all(row.value is None and row.note == "no rows" for row in rows)


@pytest.mark.parametrize(
    ("rows", "subjects", "reports", "said"),
    [(1, None, None, "1 person"), (3, [5, 5, 5], None, "1 person"), (4, None, [2] * 4, "1 item")],
)
def test_one_person_or_one_item_is_no_result(rows, subjects, reports, said):
    people = None if subjects is None else np.array(subjects)
    codes = None if reports is None else np.array(reports)
    found = retrieval(
        A[:rows], B[:rows], identity=(codes, codes), resampling=Resampling(people, draws=10)
    )
    assert len(found) == 8
    assert not [row for row in found if row.value is not None or row.method == "chance"]
    assert all(row.note.startswith(f"not estimable: retrieval among {said}") for row in found)
    assert all(row.n == rows for row in found)


def test_by_site_whole_sites_are_drawn_and_no_point_moves():
    sites = np.arange(len(A)) % 12
    plain, by_site = (
        retrieval(A, B, resampling=Resampling(draws=100, clusters=s)) for s in (None, sites)
    )
    assert [r.value for r in plain] == [r.value for r in by_site]
    assert {r.resampling for r in plain} == {"subject"}
    assert {r.resampling for r in by_site} == {"site"}
    moved = [a.low != b.low for a, b in zip(plain, by_site, strict=True) if a.low is not None]
    assert any(moved)
    few = retrieval(A, B, resampling=Resampling(draws=100, clusters=np.arange(len(A)) % 3))
    assert all("3 sites: too few" in r.note for r in few if r.method != "chance")
