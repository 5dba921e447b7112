from __future__ import annotations

import numpy as np
import pytest

from medmcl.evaluation.metrics.loess import loess, loess_rows

# R's data set `cars` (Ezekiel 1930) and predict(loess(dist ~ speed, cars), 5:25) of R
SPEED = np.repeat(
    [4, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 22, 23, 24, 25],
    [2, 2, 1, 1, 3, 2, 4, 4, 4, 3, 2, 3, 4, 3, 5, 1, 1, 4, 1],
).astype(float)
DIST = np.array(
    [2, 10, 4, 22, 16, 10, 18, 26, 34, 17, 28, 14, 20, 24, 28, 26, 34, 34, 46, 26, 36, 60, 80, 20,
     26, 54, 32, 40, 32, 40, 50, 42, 56, 76, 84, 36, 46, 68, 32, 48, 52, 56, 64, 66, 54, 70, 92, 93,
     120, 85],
    dtype=float,
)  # fmt: skip
FROM_R = [
    7.797353, 10.002308, 12.499786, 15.281082, 18.446568, 21.865315, 25.517015, 29.350386,
    33.230660, 37.167935, 41.205226, 45.055736, 48.355889, 49.824812, 51.986702, 56.461318,
    61.959729, 68.569313, 76.316068, 85.212121, 95.324047,
]  # fmt: skip


def test_the_curve_of_r_s_own_example_is_that_of_r():
    curve = loess(SPEED, DIST)
    assert curve.vertices[1:-1].tolist() == [8, 10, 12, 13, 14, 15, 17, 19, 22]
    assert curve(np.arange(5.0, 26)) == pytest.approx(FROM_R, abs=1e-6)


def test_vertices_are_fitted_as_slow_loops_say():
    rng = np.random.default_rng(2)
    x, y = rng.random(60), rng.random(60)
    curve = loess(x, y)
    for vertex, value, slope in zip(curve.vertices, curve.values, curve.slopes, strict=True):
        distance = abs(x - vertex)
        width = np.sort(distance)[int(60 * 0.75) - 1]
        weight = np.array([(1 - min(d / width, 1) ** 3) ** 3 for d in distance])
        design = np.column_stack([np.ones(60), x - vertex, (x - vertex) ** 2])
        root = np.sqrt(weight)
        found = np.linalg.lstsq(design * root[:, None], y * root, rcond=None)[0]
        assert (value, slope) == pytest.approx((found[0], found[1]), abs=1e-9)


def test_the_smoother_matrix_gives_the_curve_of_any_outcome():
    rng = np.random.default_rng(3)
    x, y, at = rng.random(40), rng.random((40, 2)), np.linspace(0.1, 0.9, 7)
    rows = loess_rows(x, at)
    assert rows @ y == pytest.approx(loess(x, y)(at))
    assert rows @ y[:, 0] == pytest.approx(loess(x, y[:, 0])(at))


def test_tied_neighbourhoods_still_give_a_curve():
    x = np.repeat([0.1, 0.2, 0.9], [40, 2, 3])
    y = (np.arange(45) % 2).astype(float)
    found = loess(x, y)(np.array([0.1, 0.2, 0.9]))
    assert np.isfinite(found).all()
    assert found[0] == pytest.approx(y[:40].mean(), abs=0.05)
