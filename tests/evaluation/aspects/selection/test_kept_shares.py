"""What a selection keeps of each group: counts by hand, and warnings where a group is left out."""

from __future__ import annotations

import numpy as np
import pytest
from made_selection import selection

from medmcl.core.suppression import TOO_FEW, WITHHELD
from medmcl.evaluation.aspects.selection.evidence import cut_of
from medmcl.evaluation.aspects.selection.kept_shares import EVERYONE, kept_shares, share_warnings
from medmcl.evaluation.metrics.shares import effective_size, wilson


def flags(n, *places):
    rows = np.zeros(n, dtype=bool)
    rows[list(places)] = True
    return rows


def test_counts_of_groups_are_those_of_a_loop_over_pairs():
    rng = np.random.default_rng(0)
    kept, labels = rng.random(400) < 0.4, rng.integers(0, 3, 400)
    groups = {"class": {f"c{k}": labels == k for k in range(3)}}
    found = kept_shares(selection(400, kept=kept, subgroups=groups))
    assert [one.group for one in found] == ["", "c0", "c1", "c2"]
    for k, one in enumerate(found[1:]):
        n = there = 0
        for at in range(400):
            if labels[at] == k:
                n += 1
                there += bool(kept[at])
        assert (one.n, one.kept, one.share) == (n, there, there / n)
        assert (one.low, one.high) == pytest.approx(wilson(there / n, n, 0.95))
        assert not one.is_low
    assert (found[0].attribute, found[0].n, found[0].kept) == (EVERYONE, 400, int(kept.sum()))
    assert share_warnings(found) == []


def test_a_group_of_which_less_than_half_the_overall_share_is_kept_gets_a_warning_from_20_on():
    kept = np.arange(100) >= 60  # 40 %
    nineteen, twenty = flags(100, *range(19)), flags(100, *range(16), 60, 61, 62, 63)
    exactly = flags(100, *range(16), 60, 61, 62, 63)  # 4 of 20: 20 %, half and no less
    fewer = flags(100, *range(17), 60, 61, 62)  # 3 of 20: 15 %
    groups = {"site": {"A": nineteen, "B": twenty, "C": exactly, "D": fewer}}
    found = {one.group: one for one in kept_shares(selection(kept=kept, subgroups=groups))}
    assert [name for name, one in found.items() if one.is_low] == ["D"]
    (line,) = share_warnings(list(found.values()))
    assert "site, D" in line
    assert "3 of 20 pairs, 15.0%; of all 40.0%" in line


def test_groups_of_few_people_show_no_number_nor_does_what_tells_theirs():
    subjects = np.arange(100)
    subjects[:30] = 0  # thirty pairs of one person
    one = flags(100, *range(30))
    rest, most = flags(100, *range(30, 50)), flags(100, *range(50, 100))
    groups = {"site": {"A": one, "B": rest, "C": most}}
    found = {s.group: s for s in kept_shares(selection(subgroups=groups, subjects=subjects))}
    assert (found["A"].n, found["A"].share, found["A"].note) == (None, None, TOO_FEW)
    assert (found["B"].n, found["B"].note) == (None, WITHHELD)
    assert found["C"].n == 50
    assert found["A"].is_low
    lines = share_warnings(list(found.values()))
    assert len(lines) == 2
    assert not any("30" in line or "20 " in line for line in lines)


def test_a_group_without_pairs_is_left_out_and_one_pair_is_enough():
    found = kept_shares(selection(1, subgroups={"sex": {"a": flags(1), "b": flags(1, 0)}}))
    assert [one.group for one in found] == ["", "b"]
    assert found[0].n == 1
    assert found[1].note == TOO_FEW


def test_pairs_of_one_subject_widen_the_interval():
    kept, groups = np.repeat(np.arange(50) % 2 == 0, 4), {}
    alone = kept_shares(selection(200, kept=kept, subgroups=groups))[0]
    people = np.repeat(np.arange(50), 4)
    together = kept_shares(selection(200, kept=kept, subgroups=groups, subjects=people))[0]
    assert together.low < alone.low
    assert together.high > alone.high


def test_wilson_is_the_root_of_the_score_equation():
    low, high = wilson(0.3, 40, 0.95)
    for end in (low, high):
        assert abs(0.3 - end) == pytest.approx(1.959964 * (end * (1 - end) / 40) ** 0.5, rel=1e-6)
    assert wilson(0.0, 10, 0.95)[0] == 0.0
    assert effective_size(np.array([0.0, 1.0, 1.0, 0.0]), np.arange(4)) == 4


INF = float("inf")


@pytest.mark.parametrize(("scores", "kept", "cut"), [
    ([1, 2, 3, 4], [0, 0, 1, 1], 3),
    ([1, 2, 3, 4], [0, 1, 0, 1], None),
    ([1, 2, 2, 4], [0, 0, 1, 1], 2),  # a tie at the cut
    ([1, 2, 3, 4], [1, 1, 0, 0], None),  # the lowest are kept
    ([1, 2], [1, 1], None),
    ([1, 2], [0, 0], None),
    ([5, 5, 5], [1, 0, 1], None),  # nothing to cut by
    ([-INF, -INF, 3, INF], [0, 0, 1, 1], 3),
    ([1, 2, INF, INF], [0, 0, 1, 1], INF),
])  # fmt: skip
def test_the_cut_is_the_lowest_kept_score_where_no_other_is_above(scores, kept, cut):
    assert cut_of(np.array(scores, dtype=float), np.array(kept, dtype=bool)) == cut


@pytest.mark.parametrize(("changes", "said"), [
    ({"kept": np.zeros(0, dtype=bool)}, "N >= 1"),
    ({"kept": np.zeros(100)}, "bool"),
    ({"scores": {"clip": np.zeros(99)}}, "'clip'"),
    ({"scores": {"clip": np.full(100, np.nan)}}, "NaN for 100"),
    ({"subgroups": {"sex": {"a": np.ones(99, dtype=bool)}}}, "'sex: a'"),
    ({"subjects": np.zeros(99)}, "'subjects'"),
])  # fmt: skip
def test_columns_that_do_not_agree_are_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        selection(**changes)
