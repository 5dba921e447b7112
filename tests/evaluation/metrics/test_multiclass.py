import numpy as np
import pytest
from made_targets import targets_of

from medmcl.core.errors import ConfigError
from medmcl.evaluation import (
    bootstrap,
    brier,
    brier_classes,
    calibration_slope,
    evaluate_embeddings,
    linear_probe,
)

RNG = np.random.default_rng(0)
SHARES = RNG.dirichlet(np.ones(3), 60)
CLASSES = np.array([RNG.choice(3, p=p) for p in SHARES])


def test_the_brier_score_of_classes_is_the_loop_over_rows_and_classes():
    total = sum(
        (p[k] - (y == k)) ** 2 for p, y in zip(SHARES, CLASSES, strict=True) for k in range(3)
    )
    assert brier_classes(CLASSES, SHARES) == pytest.approx(total / 60)
    twice = brier_classes(np.repeat(CLASSES, 2), np.repeat(SHARES, 2, axis=0))
    assert brier_classes(CLASSES, SHARES, weights=np.full(60, 2.0)) == pytest.approx(twice)
    assert brier_classes(CLASSES, np.eye(3)[CLASSES]) == 0
    two = np.column_stack([1 - SHARES[:, 0], SHARES[:, 0]])
    assert brier_classes(CLASSES == 0, two) == pytest.approx(2 * brier(CLASSES == 0, SHARES[:, 0]))


def test_what_is_no_class_and_no_probability_is_refused():
    with pytest.raises(ConfigError, match="number of its class"):
        brier_classes(CLASSES + 1, SHARES)
    with pytest.raises(ConfigError, match="between 0 and 1"):
        brier_classes(CLASSES, 2 * SHARES)
    with pytest.raises(ConfigError, match="one probability a class"):
        brier_classes(CLASSES, SHARES[:, 0])


def test_a_task_of_classes_has_its_brier_score_and_the_calibration_of_each_class():
    size = 700
    x = RNG.normal(size=(size, 2))
    values = np.digitize(x[:, 0] + RNG.normal(size=size), [-0.5, 0.7])
    task = targets_of("multiclass", values)
    split = np.array(["train"] * 350 + ["tuning"] * 100 + ["held_out"] * 250)
    rows = {
        (r.target, r.metric): r
        for r in evaluate_embeddings({"x": x}, task, split, np.arange(size), bootstrap_draws=60)
    }
    held = np.flatnonzero(split == "held_out")
    p = linear_probe(x, task, np.arange(350), np.arange(350, 450)).predict(x[held])
    y = values[held]
    whole = rows["all classes", "brier"]
    assert whole.value == pytest.approx(brier_classes(y, p))
    assert whole.low < whole.value < whole.high
    assert (whole.direction, whole.note.split(";")[0]) == (
        "lower",
        "summed over classes, from 0 to 2",
    )
    for k, name in enumerate(task.classes):
        slope = rows[name, "calibration_slope"]
        assert slope.value == pytest.approx(calibration_slope(y == k, p[:, k]))
        known = bootstrap("ici", y == k, p[:, k], draws=60)
        assert rows[name, "ici"].value == pytest.approx(known.value)
        assert rows[name, "calibration_intercept"].value is not None
    mean = np.mean([rows[name, "calibration_slope"].value for name in task.classes])
    assert rows["macro", "calibration_slope"].value == pytest.approx(mean)
    benefit = rows["all classes", "net_benefit"]
    assert benefit.value is None
    assert "not defined for several classes" in benefit.note


def test_scores_of_classes_have_no_brier_score():
    rows = evaluate_embeddings(
        {}, targets_of("multiclass", CLASSES), np.full(60, "held_out"), np.arange(60),
        bootstrap_draws=20, predictions={"zero-shot": 9 * SHARES},
    )  # fmt: skip
    found = next(r for r in rows if r.metric == "brier")
    assert found.value is None
    assert "scores, not probabilities" in found.note
