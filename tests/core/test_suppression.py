from __future__ import annotations

from itertools import product

import pandas as pd
import pytest

from medmcl.core.suppression import WITHHELD, few, few_share, hide, plain_few
from medmcl.evaluation.report.patterns import presence


@pytest.mark.parametrize(
    ("count", "shown"), [(0, "0"), (1, "<5"), (4, "<5"), (5, "5"), (1234, "1,234")]
)
def test_small_counts_are_not_counted_out(count, shown):
    assert few(count) == shown
    assert plain_few(count) == (shown if shown.startswith("<") else count)


def test_shares_that_tell_a_small_count_or_rest_are_words():
    assert few_share(3, 1000) == "few"
    assert few_share(997, 1000) == "almost all"
    assert few_share(0, 1000) == "0.0%"
    assert few_share(1000, 1000) == "100.0%"
    assert few_share(5, 1000) == "0.5%"
    assert few_share(0, 0) == "0.0%"


def test_one_hidden_count_takes_the_next_smallest_with_it():
    assert hide({"a": 100, "b": 7, "c": 2}) == {"a": 100, "b": WITHHELD, "c": "<5"}
    assert hide({"a": 100, "b": 7, "c": 2}, fewest=1) == {"a": 100, "b": 7, "c": 2}
    assert hide({"a": 100, "b": 0}) == {"a": 100, "b": 0}


@pytest.mark.parametrize("counts", [(60, 55, 1, 1, 1, 1, 1), (100, 5, 1), (60, 6, 6, 4), (9, 4, 4)])
def test_hidden_counts_are_not_the_only_ones_that_add_up(counts):
    found = hide(dict(enumerate(counts)))
    few = [k for k, text in found.items() if text == "<5"]
    held = [k for k, text in found.items() if text == WITHHELD]
    shown = [count for count in found.values() if isinstance(count, int)]
    rest = sum(counts) - sum(shown)
    most = min(shown, default=rest)  # who knows the rule knows that those withheld are no more
    could = [one for one in product(range(1, 5), repeat=len(few))
             if 5 * len(held) <= rest - sum(one) <= most * len(held)]  # fmt: skip
    assert all(len({one[k] for one in could}) > 1 for k in range(len(few))), found


def test_patterns_of_few_samples_are_hidden_with_what_would_tell_them():
    table = pd.DataFrame(
        {"ecg": [True, True, False], "cmr": [True, False, True], "samples": [200, 30, 3]}
    )
    found = presence(table)
    assert [p.samples for p in found.patterns] == [200, WITHHELD, "<5"]
    assert [p.height for p in found.patterns] == [200, 0, 0]
    assert [p.name for p in found.patterns] == ["ecg + cmr", "ecg", "cmr"]
    assert found.shares == {"ecg": "almost all", "cmr": "87.1%"}
    assert found.absent == {"ecg": "few", "cmr": "12.9%"}


def test_patterns_are_counted_from_samples_too_and_nothing_gives_nothing():
    found = presence(pd.DataFrame({"ecg": [True] * 8 + [False] * 6}))
    assert [(p.name, p.samples) for p in found.patterns] == [("ecg", 8), ("none", 6)]
    assert presence(pd.DataFrame()) is None
    assert presence(pd.DataFrame({"samples": [3]})) is None
