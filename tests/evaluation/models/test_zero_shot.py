from __future__ import annotations

import numpy as np
import pytest

from medmcl.evaluation import ensemble, zero_shot_classes, zero_shot_labels

RNG = np.random.default_rng(0)


def test_an_ensemble_ignores_the_length_of_its_prompts():
    prompts = RNG.normal(size=(3, 5))
    scaled = prompts * np.array([[1.0], [10.0], [0.1]])
    assert ensemble(prompts) == pytest.approx(ensemble(scaled))
    assert np.linalg.norm(ensemble(prompts)) == pytest.approx(1)


def test_classes_equal_a_softmax_by_hand():
    x, prompts = RNG.normal(size=(4, 5)), [RNG.normal(size=(2, 5)) for _ in range(3)]
    found = zero_shot_classes(x, prompts, logit_scale=7.0)
    for i in range(4):
        unit = x[i] / np.linalg.norm(x[i])
        odds = np.exp([7 * unit @ ensemble(group) for group in prompts])
        assert found[i] == pytest.approx(odds / odds.sum())


def test_labels_equal_the_two_prompt_softmax():
    x = RNG.normal(size=(4, 5))
    yes, no = [RNG.normal(size=(2, 5))], [RNG.normal(size=(3, 5))]
    found = zero_shot_labels(x, yes, no, logit_scale=5.0)
    pair = zero_shot_classes(x, [*yes, *no], logit_scale=5.0)
    assert found[:, 0] == pytest.approx(pair[:, 0])


def test_prompts_that_say_nothing_are_refused():
    with pytest.raises(ValueError, match="P > 0"):
        ensemble(np.zeros((0, 4)))
    with pytest.raises(ValueError, match="cancel"):
        ensemble(np.array([[1.0, 0], [-1, 0]]))
    with pytest.raises(ValueError, match="labels"):
        zero_shot_labels(np.ones((1, 2)), [np.ones((1, 2))], [], logit_scale=1.0)
