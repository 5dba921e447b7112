from __future__ import annotations

import pytest

from medmcl.core.errors import ConfigError
from medmcl.objectives.pairs.pairs import (
    Star,
    complete_pairs,
    explicit_pairs,
    pair_graph,
    star_pairs,
)

NAMES = ("ecg", "cmr", "report")


def test_pairs_keep_the_order_of_the_recipe():
    assert list(explicit_pairs([("cmr", "ecg"), ("ecg", "report", 2.0)]).weights.items()) == [
        (("cmr", "ecg"), 1.0),
        (("ecg", "report"), 2.0),
    ]
    assert list(complete_pairs(NAMES).weights) == [
        ("ecg", "cmr"), ("ecg", "report"), ("cmr", "report"),
    ]  # fmt: skip
    assert list(star_pairs("cmr", NAMES).weights) == [("cmr", "ecg"), ("cmr", "report")]


def test_a_recipe_names_pairs_all_or_a_star():
    assert pair_graph("all", NAMES).weights == complete_pairs(NAMES).weights
    assert pair_graph(Star(star="ecg"), NAMES).weights == star_pairs("ecg", NAMES).weights
    assert pair_graph([("ecg", "cmr")], NAMES).weights == {("ecg", "cmr"): 1.0}


@pytest.mark.parametrize(
    ("pairs", "says"),
    [
        ([("ecg", "cmrr")], "did you mean 'cmr'"),
        (Star(star="ec"), "did you mean 'ecg'"),
        ([("ecg", "ecg")], "itself"),
        ([("ecg", "cmr"), ("cmr", "ecg")], "twice"),
        ([("ecg", "cmr"), ("ecg", "cmr")], "twice"),
        ([("ecg", "cmr", 0.0)], "above 0"),
        ([], "no pair"),
    ],
)
def test_pairs_that_make_no_sense_are_refused(pairs, says):
    with pytest.raises(ConfigError, match=says):
        pair_graph(pairs, NAMES)


def test_one_modality_has_no_pair():
    with pytest.raises(ConfigError, match="no pair"):
        pair_graph("all", ("ecg",))
