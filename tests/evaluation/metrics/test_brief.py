"""What a notebook prints of results that hold whole curves."""

import numpy as np
import pytest

import medmcl.evaluation as e


@pytest.fixture(scope="module")
def found():
    rng = np.random.default_rng(0)
    x = rng.normal(size=300)
    risk = 1 / (1 + np.exp(-x))
    y = (rng.random(300) < risk).astype(int)
    time = rng.exponential(np.exp(-x))
    seen = time < 1.5
    time = np.minimum(time, 1.5 + rng.random(300))
    survival = np.exp(-np.exp(x))
    return {
        "calibration": e.calibration(y, risk, e.Resampling(draws=20)),
        "curve": e.calibration(y, risk, e.Resampling(draws=20)).curve,
        "decision": e.net_benefit(y, risk, resampling=e.Resampling(draws=20)),
        "survival": e.survival_calibration(seen, time, survival, 1.0, e.Resampling(draws=5)),
        "kaplan_meier": e.kaplan_meier(seen, time),
    }


@pytest.mark.parametrize("name", ["calibration", "curve", "decision", "survival", "kaplan_meier"])
def test_a_result_with_curves_is_written_in_two_lines_of_a_notebook(found, name):
    text = repr(found[name])
    assert text.startswith(f"{type(found[name]).__name__}(")
    assert len(text) < 240
    assert "\n" not in text


def test_the_short_form_holds_the_numbers_that_people_quote(found):
    one = found["calibration"]
    assert f"slope={one.slope}" in repr(one)
    assert f"n=300, events={one.events}" in repr(one)
    assert "thresholds=<99 from 0.01 to 0.99>" in repr(found["decision"])


def test_a_note_is_told(found):
    import dataclasses

    assert "note='rough'" in repr(dataclasses.replace(found["calibration"], note="rough"))
