"""The page of a screening: right numbers, escaped text, paper and pictures, odd truths."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from made_selection import shown_pair

from medmcl.evaluation.aspects.screen.evidence import Screened, judge, most_suspect
from medmcl.evaluation.aspects.screen.page import roc_curves, screen_page
from medmcl.evaluation.report.cards import Card

EVIL = '<script>alert("x")</script> & {{ 7 * 7 }}'


def screening(truth, *, text="7", signal=False, n=40, attack=""):
    """Scores of two detectors, one finds the last rows and one the first; and three suspects."""
    scores = {"dao": np.arange(n, dtype=float), "lid": -np.arange(n, dtype=float)}
    table = pd.DataFrame({"sample": text, "subject": text, **scores}, index=range(n))
    for name, x in scores.items():
        table[f"{name}_rank"] = most_suspect(x).argsort() + 1
    judged = {}
    if truth is not None:
        table["poisoned"] = truth
        judged = {name: judge(x, truth, np.arange(n), 5, draws=50) for name, x in scores.items()}
    found = Screened(stage=text, modality=text, attack=attack, k=4, batch=None,
                     rows=np.arange(n), table=table, judged=judged)  # fmt: skip
    suspects = tuple(
        Card(
            id=f"{text}{row}",
            state="" if truth is None else "poisoned" if truth[row] else "clean",
            look="plain" if truth is None else "odd" if truth[row] else "out",
            rank=rank,
            numbers={name: float(x[row]) for name, x in scores.items()},
            sides=shown_pair(text=text, signal=signal).sides,
        )
        for rank, row in enumerate(most_suspect(scores["dao"])[:3].tolist(), 1)
    )
    return found, {"dao": suspects}


def last(n=40, count=4):
    return np.arange(n) >= n - count


def plain(html):
    return re.sub(r"base64,[^\"]*", "", html).split("</style>")[1]


def test_a_judgement_is_area_and_what_is_among_the_top():
    truth = last()
    best = judge(np.arange(40.0), truth, np.arange(40), 5, draws=50)
    assert (best.auroc.value, best.in_top, best.top, best.by_chance) == (1.0, 4, 5, 0.5)
    worst = judge(-np.arange(40.0), truth, np.arange(40), 5, draws=50)
    assert (worst.auroc.value, worst.in_top) == (0.0, 0)
    ties = judge(np.zeros(40), truth, np.arange(40), 100, draws=50)
    assert (ties.auroc.value, ties.in_top, ties.top) == (0.5, 4, 40)
    assert most_suspect(np.zeros(4)).tolist() == [0, 1, 2, 3]


def test_draws_are_over_subjects():
    rng = np.random.default_rng(0)
    truth, scores = np.repeat(np.arange(20) % 2 == 0, 10), rng.normal(size=20).repeat(10)
    each, whole = (
        judge(scores, truth, who, 5, draws=200).auroc
        for who in (np.arange(200), np.arange(20).repeat(10))
    )
    assert whole.high - whole.low > 2 * (each.high - each.low)


def test_the_curves_go_where_the_scores_say_and_the_caption_counts_rows(drawn, legends_beside):
    picture = roc_curves(screening(last())[0])
    assert legends_beside() == 1
    chance, dao, lid = drawn[0].axes[0].lines
    assert np.array_equal(*chance.get_data())
    assert {(0.0, 1.0)} <= set(zip(*dao.get_data(), strict=True))  # all found, nobody flagged
    assert {(1.0, 0.0)} <= set(zip(*lid.get_data(), strict=True))
    assert "over 40 rows, 4 poisoned and 36 clean" in picture.aid
    assert [row[:4] for row in picture.rows] == [
        ("dao", "1.000", "4", "36"), ("lid", "0.000", "4", "36"),
    ]  # fmt: skip
    assert {len(row) for row in picture.rows} == {len(picture.header)}


@pytest.mark.parametrize("truth", [None, np.zeros(40, dtype=bool), np.ones(40, dtype=bool)])
def test_there_is_no_curve_without_both_kinds_and_the_page_says_why(truth):
    found, suspects = screening(truth)
    assert roc_curves(found) is None
    html = plain(screen_page(found, suspects))
    assert "Odd is not poisoned" in html
    if truth is None:
        assert "the detectors are not judged" in html
        assert "card-of plain" in html
        assert '<span class="state"></span>' in html
    else:
        assert "not estimable" in html


def test_suspects_are_marked_in_their_order_with_paper_pictures_and_escaped_texts():
    html = plain(screen_page(*screening(last(count=1), text=EVIL, signal=True), title=EVIL))
    assert "<script" not in html
    assert "49" not in html.split("</h1>")[0]
    marks = re.findall(r'class="card-of (\w+)"', html)
    assert marks == ["odd", "out", "out"]
    ranks = re.findall(r'<p class="who"><span>(\d)\. ', html)
    assert ranks == ["1", "2", "3"]
    assert html.count('<img class="trace"') == 3
    assert "25 mm/s to 10 mm/mV" in html
    assert 'class="cards cards-2"' in html
    assert html.count('<span class="state">poisoned</span>') == 1
    pictured = screen_page(*screening(last(), attack="attack"))
    assert pictured.count('<img class="photo') == 3
    assert "with the triggers of the attack" in pictured
    assert "with the triggers" not in screen_page(*screening(last()))
