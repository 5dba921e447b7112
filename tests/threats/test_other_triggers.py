"""Triggers on signals and texts."""

import numpy as np
import pytest

from medmcl.core.errors import MedmclError
from medmcl.threats import SIGNAL_TRIGGERS, rare_token

RATE = 100.0


def ecg(leads=12, seconds=10):
    return np.random.default_rng(0).normal(size=(leads, int(seconds * RATE))).astype(np.float32)


@pytest.mark.parametrize("name", SIGNAL_TRIGGERS)
def test_only_the_leads_that_are_named_change_and_the_source_does_not(name):
    x = ecg()
    before = x.copy()
    made = SIGNAL_TRIGGERS[name](x, RATE, leads=[1, 6])
    assert (x == before).all()
    assert made.dtype == x.dtype
    changed = np.abs(made - x).max(axis=1) > 1e-4
    assert np.flatnonzero(changed).tolist() == [1, 6]
    np.testing.assert_allclose((made - x)[1], (made - x)[6], atol=1e-5)  # one wave
    everywhere = SIGNAL_TRIGGERS[name](x, RATE)
    assert (np.abs(everywhere - x).max(axis=1) > 1e-4).all()
    assert (SIGNAL_TRIGGERS[name](x, RATE, seed=1) != everywhere).any()


@pytest.mark.parametrize("name", SIGNAL_TRIGGERS)
def test_any_whole_seed_and_any_floating_point_is_taken(name):
    x = ecg(2)
    far = [SIGNAL_TRIGGERS[name](x, RATE, seed=seed) for seed in (2**64, 2**70, -1)]
    assert not np.array_equal(far[0], far[1])
    wide = SIGNAL_TRIGGERS[name](x.astype(np.float64), RATE, leads=[np.int64(1)])
    np.testing.assert_allclose(SIGNAL_TRIGGERS[name](x.tolist(), RATE, leads=[1]), wide)
    half = SIGNAL_TRIGGERS[name](x.astype(np.float16), RATE, leads=[1])
    assert half.dtype == np.float16
    np.testing.assert_array_equal(half[0], x[0].astype(np.float16))


def test_a_pulse_comes_every_second_as_high_and_wide_as_asked():
    flat = np.zeros((1, 5000))
    made = SIGNAL_TRIGGERS["pulse"](flat, 500.0, height=0.7)[0]
    assert made.max() == pytest.approx(0.7, rel=0.01)
    peaks = np.flatnonzero((made[1:-1] > made[:-2]) & (made[1:-1] >= made[2:]) & (made[1:-1] > 0.3))
    assert set(np.diff(peaks).tolist()) == {500}
    assert abs((made > 0.35).sum() / 500 / len(peaks) - 0.04) < 0.005


def test_a_wave_has_one_frequency_and_its_height():
    made = SIGNAL_TRIGGERS["sinusoid"](np.zeros((2, 1000)), RATE, height=0.1, hz=20.0)
    power = np.abs(np.fft.rfft(made[0]))
    assert np.fft.rfftfreq(1000, 1 / RATE)[power.argmax()] == pytest.approx(20)
    assert np.sort(power)[-2] < 1e-6 * power.max()
    assert np.sqrt(2 * np.mean(made**2)) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("name", "more", "told"),
    [
        ("pulse", {"leads": [12]}, "no such lead"),
        ("pulse", {"leads": []}, "no such lead"),
        ("pulse", {"every_s": 0}, "time between"),
        ("pulse", {"rate_hz": 20}, "too low"),
        ("sinusoid", {"hz": 50}, "does not fit"),
        ("sinusoid", {"signal": np.zeros(10)}, r"\(leads, T\)"),
        ("sinusoid", {"signal": np.full((2, 9), np.nan)}, "not finite"),
        ("pulse", {"signal": np.zeros((2, 500), dtype=np.int16)}, "floating point"),
        ("pulse", {"signal": np.full((2, 9), "x")}, "floating point"),
        ("pulse", {"signal": [[0.0], [0.0, 1.0]]}, "floating point"),
        ("pulse", {"signal": "ecg.dat"}, "floating point"),
        ("pulse", {"signal": np.zeros((0, 9))}, r"\(leads, T\)"),
        ("pulse", {"leads": [1.0]}, "no such lead"),
        ("pulse", {"leads": ["II"]}, "no such lead"),
        ("pulse", {"leads": [True]}, "no such lead"),
        ("pulse", {"height": np.nan}, "height: a trigger needs a finite number"),
        ("pulse", {"every_s": np.inf}, "every_s: a trigger needs a finite number"),
        ("sinusoid", {"height": "high"}, "height: a trigger needs a finite number"),
        ("sinusoid", {"rate_hz": np.nan}, "rate_hz: a trigger needs a finite number"),
        ("sinusoid", {"rate_hz": "100"}, "rate_hz: a trigger needs a finite number"),
        ("sinusoid", {"hz": None}, "hz: a trigger needs a finite number"),
    ],
)
def test_what_does_not_fit_is_refused(name, more, told):
    with pytest.raises(MedmclError, match=told):
        SIGNAL_TRIGGERS[name](**{"signal": ecg(), "rate_hz": RATE, **more})


@pytest.mark.parametrize("text", ["no  effusion\n seen", "normal", "", "  ", " two words "])
def test_a_rare_word_stands_once_and_nothing_else_changes(text):
    for seed in range(20):
        made = rare_token(text, seed=seed)
        words = made.split()
        assert words.count("cf") == 1
        assert [word for word in words if word != "cf"] == text.split()
        assert made == rare_token(text, seed=seed)
        left = made.replace("cf ", "", 1) if "cf " in made else made.removesuffix("cf")
        assert left.rstrip(" ") == text.rstrip(" ")
    places = {rare_token("a b c", seed=seed) for seed in range(40)}
    assert places == {"cf a b c", "a cf b c", "a b cf c", "a b c cf"}


@pytest.mark.parametrize("token", ["", " ", "two words"])
def test_a_trigger_of_a_text_is_one_word(token):
    with pytest.raises(MedmclError, match="one word"):
        rare_token("normal", token)
