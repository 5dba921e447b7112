from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest

from medmcl.core.contracts import RecordRef
from medmcl.modalities.ecg.adapter import ECG, ECGSettings, ECGSource
from medmcl.modalities.ecg.beats import beat_and_width
from medmcl.modalities.ecg.checks.chest import EXCHANGES, LEADS, log_odds, measure, namings, weights
from medmcl.modalities.ecg.checks.levels import Look, levels_of
from medmcl.modalities.ecg.checks.limb import exchanged, explain, residual_of
from medmcl.modalities.ecg.checks.rate import FACTORS, LENGTH_ODDS, RIGHT, length_odds
from medmcl.modalities.ecg.checks.rate import log_odds as rate_log_odds
from medmcl.modalities.ecg.checks.shapes import measure_shapes
from medmcl.modalities.ecg.checks.together import inspect_together
from medmcl.modalities.ecg.checks.values import chest_odds, is_clipped
from medmcl.modalities.ecg.files.readers import Channels, ECGRecord, to_record
from medmcl.modalities.ecg.leads import LIMB, LIMB_ROWS, PRECORDIAL, TWELVE
from medmcl.modalities.ordered import quantile

PLACE = RecordRef(subject="s1", record="r1", paths={"path": Path("r1.npy")})


def heart(rate=100.0, seconds=10.0, beats=72.0, seed=0) -> ECGRecord:
    """A 12-lead ECG of three dipoles that turn, with a little noise."""
    rng = np.random.default_rng(seed)
    at = np.arange(round(seconds * rate)) / rate
    phase = at % (60 / beats)
    angles = np.deg2rad([130, 100, 70, 45, 20, -10])
    chest = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    signal = np.zeros((12, len(at)))
    waves = [(0.12, 0.025, 0.12, 50, 10), (0.27, 0.009, -0.15, 120, 60), (0.30, 0.012, 1.1, 55, 0)]
    waves += [(0.33, 0.011, -0.3, 80, 80), (0.55, 0.045, 0.3, 40, 60)]
    for centre, width, size, frontal, across in waves:
        pulse = size * np.exp(-(((phase - centre) / width) ** 2) / 2)
        x, y = np.cos(np.deg2rad(frontal)), np.sin(np.deg2rad(frontal))
        one, two = x, x / 2 + y * np.sqrt(3) / 2
        limb = np.array(LIMB_ROWS) @ np.array([one, two])
        ahead = chest @ np.array([np.cos(np.deg2rad(across)), np.sin(np.deg2rad(across))])
        signal += np.concatenate([limb, ahead])[:, None] * pulse
    signal += 0.01 * rng.normal(size=signal.shape)
    return ECGRecord(
        signal_mv=signal.astype(np.float32), leads=TWELVE, rate_hz=rate, header_rate_hz=None
    )


def findings(record, source=None, **settings):
    keys = {"reader": "npy", "rate_hz": record.rate_hz, "units": "mV", **(source or {})}
    ecg = ECG(ECGSource(**keys), ECGSettings(rate_hz=100, **settings))
    return {finding.code: finding for finding in ecg.inspect(record, PLACE)}


def changed(record, change) -> ECGRecord:
    signal = record.signal_mv.copy()
    change(signal)
    return replace(record, signal_mv=signal)


def swapped(record, first, second) -> ECGRecord:
    rows = [record.leads.index(first), record.leads.index(second)]
    return changed(record, lambda x: x.__setitem__(rows, x[rows[::-1]]))


def of_rows(record, rows) -> ECGRecord:
    leads = tuple(TWELVE[row] for row in rows)
    return replace(record, signal_mv=record.signal_mv[rows], leads=leads)


def shifted(record, rows) -> ECGRecord:
    """Leads in another order, each with an offset of its own."""
    return changed(of_rows(record, rows), lambda x: x.__iadd__(np.arange(12.0)[:, None]))


def turn(x, rows):
    first, *others = rows
    x[[first, *others]] = x[[*others, first]]


SOUND = [
    *((heart(rate), None, {}) for rate in (100.0, 250.0, 500.0)),
    (replace(heart(500.0), header_units="mV", header_rate_hz=500.0),
     {"reader": "wfdb", "units": None, "rate_hz": None}, {}),
    (of_rows(heart(), [0, 1, 6]), None, {"leads": ["aVF", "V1"]}),  # derived
    (of_rows(heart(), [0, 1, 6, 7, 8, 9, 10, 11]), None, {}),
    (shifted(heart(), [5, 0, 3, 1, 11, 10, 9, 8, 7, 6, 2, 4]), None, {}),
    (heart(seconds=7), None, {"seconds": 7}),
]  # fmt: skip


@pytest.mark.parametrize(("record", "source", "settings"), SOUND)
def test_a_sound_record_has_no_findings(record, source, settings):
    assert findings(record, source, **settings) == {}


DAMAGE = {
    "nan": (
        lambda x: (x[4, 10:13].fill(np.nan), x[0, :1].fill(np.inf)),
        "nan", "error", "I (1), aVL (3) of 1000",
    ),
    "a constant lead": (lambda x: x[8].fill(0), "flat", "error", "lead V3 is constant"),
    "a constant signal": (lambda x: x.fill(0.2), "flat", "error", "the signal is constant"),
    **{
        f"{lead} reversed": (
            lambda x, row=row: np.negative(x[row], x[row]),
            "swapped_leads", "error", f"the sign of {lead} is reversed",
        )
        for row, lead in enumerate(LIMB)
    },
    **{
        f"{first}-{second}": (
            lambda x, pair=(first, second): turn(x, map(TWELVE.index, pair)),
            "swapped_leads", "error", f"{first} and {second} are swapped",
        )
        for first, second in [*combinations(LIMB, 2), ("II", "V4"), ("V1", "V5"), ("V1", "V6"),
                              ("V2", "V5")]
    },
    "three went round": (
        lambda x: turn(x, (0, 1, 3)), "swapped_leads", "error",
        "what is called aVR is I, what is called II is aVR, what is called I is II",
    ),
    "the arms": (
        lambda x: (np.negative(x[0], x[0]), turn(x, (1, 2)), turn(x, (3, 4))),
        "swapped_leads", "error", "right and the left arm are exchanged",
    ),
    "limbs of noise": (
        lambda x: x[:6].__setitem__(..., np.random.default_rng(5).normal(size=(6, 1000))),
        "inconsistent_leads", "warning", "",
    ),
    **{
        f"{lead} x {factor}": (
            lambda x, lead=lead, factor=factor: x[TWELVE.index(lead)].__imul__(np.float32(factor)),
            "wrong_units", "error", f"lead {lead} swings by",
        )
        for lead, factor in (("V2", 1000), ("I", 1e-3), ("V6", 1e-3))
    },
    "a lead of huge noise": (
        lambda x: x[7].__setitem__(..., 100 * np.random.default_rng(0).normal(size=1000)),
        "wrong_units", "warning", "",
    ),
    "a gain ten times too high": (lambda x: x.__imul__(10), "wrong_units", "warning", ""),
}  # fmt: skip


@pytest.mark.parametrize(("change", "code", "level", "said"), DAMAGE.values(), ids=DAMAGE)
def test_damage_of_a_record_has_one_finding_that_names_it(change, code, level, said):
    ((found, one),) = findings(changed(heart(), change)).items()
    assert (found, one.level, one.scope) == (f"ecg.{code}", level, "record")
    assert said in one.what


@pytest.mark.parametrize("rate", [100.0, 500.0])
def test_noise_and_mains_hum_hold_no_beats(rate):
    at = np.arange(round(10 * rate)) / rate
    hum = 0.3 * np.sin(2 * np.pi * 50.05 * at + np.zeros((12, 1)))
    for seed, signal in enumerate([0.0 * hum, hum, hum * np.arange(1, 13)[:, None]]):
        noise = (0.01 if signal.any() else 0.3) * np.random.default_rng(seed).normal(size=hum.shape)
        record = replace(heart(rate), signal_mv=(signal + noise).astype(np.float32))
        found = findings(record)
        assert found["ecg.no_beats"].level == "warning"
    slow = heart(rate, beats=31.0)
    assert "ecg.no_beats" not in findings(slow)
    buried = changed(heart(rate), lambda x: x.__iadd__(0.2 * noise / 0.01 * 0.25))
    assert "ecg.no_beats" not in findings(buried)


@pytest.mark.parametrize(
    ("factor", "units", "likely"),
    [(1000, "mV", "uV"), (1e-3, "mV", "V"), (1e-3, "µV", "mV"), (1e6, "V", "uV")],
)
def test_implausible_amplitude_names_the_likely_unit(factor, units, likely):
    record = replace(heart(), signal_mv=heart().signal_mv * np.float32(factor), units=units)
    found = findings(record, {"units": units})
    assert set(found) == {"ecg.wrong_units"}
    assert f"likely in {likely}" in found["ecg.wrong_units"].fix


def test_a_declared_unit_or_rate_that_is_not_the_headers_is_found():
    record = replace(heart(500.0), header_units="mV", header_rate_hz=500.0)
    found = findings(record, {"reader": "wfdb", "units": "uV", "rate_hz": 250})
    assert set(found) == {"ecg.wrong_units", "ecg.wrong_rate"}
    assert "250 Hz, the file says 500 Hz" in found["ecg.wrong_rate"].what


@pytest.mark.parametrize(("true", "declared"), [(100, 500), (500, 100), (250, 1000), (500, 50)])
def test_a_rate_at_which_no_heart_beats_is_found_where_the_file_cannot_say(true, declared):
    found = findings(replace(heart(float(true)), rate_hz=float(declared)), pad="zero")
    assert "ecg.wrong_rate" in found
    assert f"{true:g}" in found["ecg.wrong_rate"].fix
    assert found["ecg.wrong_rate"].level == "error"


@pytest.mark.parametrize("beats", [45, 72, 110, 160])
def test_heart_rate_is_read_from_steepness(beats):
    assert beat_and_width(heart(beats=beats).signal_mv, 100)[0] == pytest.approx(beats, rel=0.05)


def test_noise_has_no_heart_rate():
    rng = np.random.default_rng(0)
    assert np.isnan(beat_and_width(rng.normal(size=(12, 1000)), 500)[0])
    assert np.isnan(beat_and_width(rng.normal(size=(12, 1000)).cumsum(axis=1), 500)[0])


def test_with_three_limb_leads_both_readings_of_the_mistake_are_given():
    record = replace(of_rows(heart(), [1, 0, 2]), leads=("I", "II", "III"))
    what = findings(record, leads=["I", "II"])["ecg.swapped_leads"].what
    assert "I and II are swapped" in what
    assert "the sign of III is reversed" in what


def test_residual_of_true_limb_leads_is_zero_and_of_noise_is_not():
    rng = np.random.default_rng(0)
    x = np.array(LIMB_ROWS) @ rng.normal(size=(2, 50))
    assert residual_of(LIMB, x @ x.T) < 1e-7
    noise = rng.normal(size=(6, 500))
    assert residual_of(LIMB, noise @ noise.T) == pytest.approx(np.sqrt(4 / 6), abs=0.05)
    assert explain(LIMB, noise @ noise.T, 0.15).explanations == ()


def test_neighbouring_chest_leads_are_named_in_one_record():
    (found,) = findings(swapped(heart(), "V1", "V2")).values()
    assert "V1 and V2 are swapped" in found.what
    odds = chest_odds(Look(swapped(heart(), "V1", "V2")))
    assert namings()[1][int(odds.argmax())] == "V1 and V2 are swapped"


@pytest.mark.parametrize("rate", [100.0, 250.0, 360.0, 500.0, 1000.0])
def test_odds_of_chest_namings_do_not_depend_on_rate_unit_or_order(rate):
    record = heart(rate)
    odds = chest_odds(Look(record))
    assert odds.shape == (19,)
    assert odds[0] == 0
    assert odds[1:].max() < 0
    other = of_rows(record, np.random.default_rng(0).permutation(12))
    other = changed(other, lambda x: x.__imul__(1000))
    np.testing.assert_allclose(chest_odds(Look(other)), odds, atol=1e-2)


def test_odds_of_a_swap_are_those_of_the_true_names_turned_round():
    span = Look(heart()).beginning(LEADS)
    odds = log_odds(measure_shapes(span, 100))
    for number, order in enumerate(namings()[0][: EXCHANGES + 1]):
        turned = log_odds(measure_shapes(span[order], 100))
        np.testing.assert_allclose(turned[number], -odds[number], atol=1e-9)


def test_odds_are_the_sum_over_leads_and_pairs():
    span = Look(heart()).beginning(LEADS)
    shapes = measure_shapes(span, 100)
    lead, pair = measure(shapes)
    by_lead, by_pair = weights()

    def score(order):
        total = 0.0
        for place, row in enumerate(order):
            for number in range(8):
                value = lead[number, row]
                total += by_lead[number, place] * value + by_lead[number + 8, place] * value**2
            for other in range(place + 1, 8):
                for number in range(4):
                    value = pair[number, row, order[other]]
                    total += by_pair[number, place, other] * value
                    total += by_pair[number + 4, place, other] * value**2
        return total

    expected = [score(order) - score(range(8)) for order in namings()[0]]
    np.testing.assert_allclose(log_odds(shapes), expected, atol=1e-9)


def test_too_little_signal_and_copies_of_one_lead_have_no_odds():
    assert measure_shapes(np.zeros((8, 150)), 100) is None
    assert measure_shapes(np.zeros((8, 1000)), 100) is None
    assert chest_odds(Look(of_rows(heart(), range(11)))) is None
    rng = np.random.default_rng(0)
    span = Look(heart()).beginning(LEADS)
    for sizes, noise in (
        (np.arange(1, 7), 0.0),
        *((rng.uniform(0.3, 1.5, 6), 0.005) for _ in "1" * 20),
    ):
        drawn = np.concatenate([span[:2], np.outer(sizes, span[5])])
        drawn += noise * rng.normal(size=drawn.shape)
        assert log_odds(measure_shapes(drawn, 100)) is None


@pytest.mark.parametrize("lead", ["II", "III"])
def test_a_small_contradiction_that_an_exchange_removes_is_named(lead):
    record = heart()

    def quiet(x):  # I close to zero makes II, III and aVF alike
        one, two = 0.3 * x[0], x[1].copy()
        x[:6] = np.array(LIMB_ROWS) @ np.stack([one, two])

    record = swapped(changed(record, quiet), lead, "aVF")
    gram = np.cov(record.signal_mv[:6])
    assert 0.04 < residual_of(LIMB, gram) < 0.15
    assert exchanged(LIMB, gram) < 0.01
    assert f"{lead} and aVF are swapped" in findings(record)["ecg.swapped_leads"].what


def test_neighbouring_chest_leads_are_found_in_many_records():
    right = [heart(seed=seed, beats=60 + 5 * seed) for seed in range(6)]
    assert inspect_together(right, TWELVE) == []
    for first, second in pairwise(PRECORDIAL):
        wrong = [swapped(record, first, second) for record in right]
        (found,) = inspect_together(iter(wrong), TWELVE)
        assert (found.code, found.level, found.scope) == ("ecg.swapped_leads", "error", "cohort")
        assert found.what.startswith(f"{first} and {second} are swapped: 6 of 6")
        assert inspect_together(wrong[:4], TWELVE) == []
        assert inspect_together(wrong[:2] + right[2:], TWELVE) == []


def test_records_of_half_the_length_of_all_others_are_noted():
    records = [heart(seed=seed) for seed in range(10)]
    half = replace(records[0], signal_mv=records[0].signal_mv[:, :500], where="s9.hea")
    (found,) = inspect_together([*records, half], TWELVE)
    assert (found.code, found.level, found.where) == ("ecg.wrong_rate", "warning", "s9.hea")
    assert "1 of 11 ECGs last 5 s" in found.what
    doubled = replace(records[0], rate_hz=200.0, where="s9.hea")
    (found,) = inspect_together([*records, doubled], TWELVE)
    assert (found.code, found.level, found.where) == ("ecg.wrong_rate", "error", "s9.hea")
    assert inspect_together([*records, heart(seconds=30)], TWELVE) == []
    assert inspect_together([*records[:5], *[half] * 5], TWELVE) == []


@pytest.mark.parametrize(
    ("true", "stated", "beats", "level"),
    [
        (100, 500, 72, "error"),
        (500, 100, 72, "error"),
        (250, 500, 72, "warning"),  # lasts 10 s as stated: it may be a tachycardia
        (500, 250, 72, "warning"),  # 20 s long: at no rate of a sinus rhythm would it last 10 s
        (500, 500, 72, None),
        (500, 500, 110, None),
    ],
)
def test_a_rate_that_a_header_states_is_judged_too(true, stated, beats, level):
    record = heart(float(true), beats=beats, seconds=20)
    record = replace(record, rate_hz=float(stated), header_rate_hz=float(stated))
    found = findings(record, {"reader": "wfdb", "rate_hz": None}, pad="zero")
    levels = [one.level for code, one in found.items() if code == "ecg.wrong_rate"]
    assert levels == ([] if level is None else [level])


def test_missing_leads_name_what_is_there():
    record = of_rows(heart(), [0, 1, 6])
    found = findings(record)
    assert set(found) == {"ecg.missing_leads"}
    assert "lead V2, V3, V4, V5, V6 is missing" in found["ecg.missing_leads"].what
    promised = {"reader": "wfdb", "leads": ("I", "V6"), "rate_hz": None, "units": None}
    assert "promises lead V6" in findings(record, promised, leads=["I"])["ecg.missing_leads"].what


def test_short_records_are_errors_or_warnings_by_the_settings():
    record = heart(seconds=7)
    assert findings(record)["ecg.too_short"].level == "error"
    assert findings(record, pad="zero")["ecg.too_short"].level == "warning"


def test_zeros_that_fill_a_record_up_are_told_and_cut_off():
    record = heart(seconds=7.0)
    for before, after in ((0, 10), (150, 0), (150, 146)):
        padded = np.pad(record.signal_mv, [(0, 0), (before, after)])
        found = findings(replace(record, signal_mv=padded), {"trim": "zeros"}, seconds=5)
        said = found["ecg.padded"]
        assert "lasts 7 s" in said.what
        assert "trim: zeros" in said.fix
        channels = Channels(
            names=record.leads, units=("mV",) * len(padded), signal=padded, rate_hz=100.0
        )
        cut = to_record(
            channels, where="", rename={}, rate_hz=None, units=None, exact=True, trim="zeros"
        )
        np.testing.assert_array_equal(cut.signal_mv, record.signal_mv)
    one = record.signal_mv.copy()
    one[0, :300] = 0.0
    assert "ecg.padded" not in findings(replace(record, signal_mv=one))


def test_clipping_is_a_warning_that_names_leads():
    row = TWELVE.index("V4")
    record = heart(500.0)
    top = np.quantile(record.signal_mv[row], 0.85)
    found = findings(changed(record, lambda x: x[row].clip(None, top, out=x[row])))
    assert set(found) == {"ecg.clipped"}
    assert "lead V4" in found["ecg.clipped"].what
    assert found["ecg.clipped"].level == "warning"


@pytest.mark.parametrize("sign", [1, -1])
def test_a_quiet_lead_that_rests_at_its_extreme_in_coarse_steps_is_not_clipped(sign):
    row = TWELVE.index("V1")
    record = heart(500.0)

    def change(x):  # a flat baseline of 0, the minimum, under a wave of 60 uV in steps of 5 uV
        wave = 0.06 * np.maximum(0, np.sin(np.arange(x.shape[1]) / 40) - 0.3)
        noise = 0.004 * np.random.default_rng(0).random(x.shape[1])
        x[row] = sign * np.round((wave + noise) / 0.005) * 0.005

    lead = changed(record, change).signal_mv[row]
    assert (lead == sign * np.abs(lead).min()).mean() > 0.2
    assert not is_clipped(lead, 500.0)
    tall = lead.copy()
    tall[100:110] = sign * 2.0  # one steep beat: the baseline is still no rail
    assert not is_clipped(tall, 500.0)


def test_a_lead_that_lies_on_the_rail_most_of_the_time_is_clipped():
    row = heart(500.0).signal_mv[0].copy()
    row[1500:] = 5.0
    assert is_clipped(row, 500.0)
    assert is_clipped(-row, 500.0)
    row[:20] = np.nan
    assert is_clipped(row, 500.0)


def test_checks_that_share_their_work_agree_with_plain_ones():
    rng = np.random.default_rng(0)
    for samples in (3, 4, 17, 500, 501):
        rows = rng.normal(size=(4, samples)).astype(np.float32)
        wide = rows.astype(np.float64)
        for broken in (False, True):
            if broken:
                rows[1, 0], rows[2, -1], rows[3] = np.nan, np.inf, np.nan
            good = [row[np.isfinite(row)].astype(np.float64) for row in rows[: 3 if broken else 4]]
            levels = levels_of(rows)
            tails = [np.percentile(row, [0.1, 99.9]) for row in good]
            assert list(levels.swing[: len(good)]) == [high - low for low, high in tails]
            assert list(levels.median[: len(good)]) == [np.median(row) for row in good]
            assert list(levels.low[: len(good)]) == [row.min() for row in good]
            assert list(levels.high[: len(good)]) == [row.max() for row in good]
            assert list(levels.flat) == [False, False, False, broken]
        for share in (0.0, 0.25, 0.5, 0.7, 0.995, 1.0):
            expected = np.quantile(wide, share, axis=1)
            np.testing.assert_array_equal(quantile(np.sort(wide, axis=1), share), expected)


def test_remarks_of_the_reader_reach_the_user():
    found = findings(
        replace(heart(), quality=("3 values are no whole sample", "the checksum of I differs"))
    )
    assert found["ecg.reader"].what == "3 values are no whole sample"
    assert found["ecg.checksum"].what == "the checksum of I differs"
    assert (found["ecg.reader"].level, found["ecg.checksum"].level) == ("warning", "error")


@pytest.mark.parametrize("stated", [50.0, 200.0])
def test_a_rate_that_all_files_state_wrongly_is_an_error_of_the_cohort(stated):
    right = [heart(seed=seed, beats=60 + 5 * seed) for seed in range(6)]
    (found,) = inspect_together([replace(record, rate_hz=stated) for record in right], TWELVE)
    assert (found.code, found.level, found.scope) == ("ecg.wrong_rate", "error", "cohort")
    assert "100 Hz" in found.what


def test_looks_are_an_error_of_the_rate_only_with_another_sign():
    fast = {"beats": 150, "seconds": 20}
    for seconds, level in ((7, "warning"), (10, "error")):  # 14 and 20 s as stated would be half
        record = heart(100.0, beats=75, seconds=seconds)
        record = replace(record, rate_hz=50.0, header_rate_hz=50.0)
        found = findings(record, {"reader": "wfdb", "rate_hz": None}, pad="zero")
        assert found["ecg.wrong_rate"].level == level
    assert "ecg.wrong_rate" not in findings(heart(100.0, **fast))


@pytest.mark.parametrize("rate", [100.0, 250.0, 360.0, 500.0, 1000.0])
def test_odds_of_rates_do_not_depend_on_the_true_rate_unit_or_offset(rate):
    record = heart(rate)
    odds = rate_log_odds(record.signal_mv, rate)
    assert odds[RIGHT] == 0
    assert odds[[FACTORS.index(factor) for factor in (0.2, 0.5, 2.0, 5.0)]].max() < 0
    other = rate_log_odds(record.signal_mv.astype(float) * 1000 + 7, rate)
    np.testing.assert_allclose(other, odds, atol=0.05)


def test_the_usual_length_speaks_for_its_rate_and_any_other_says_nothing():
    assert (np.delete(length_odds(10.0, 12), RIGHT) == -LENGTH_ODDS).all()
    assert length_odds(20.0, 12)[FACTORS.index(0.5)] == LENGTH_ODDS
    assert length_odds(5.0, 12)[FACTORS.index(2.0)] == LENGTH_ODDS
    assert not length_odds(7.3, 12).any()
    assert not length_odds(10.0, 2).any()


def test_too_short_or_still_signals_have_no_odds_of_rates():
    assert rate_log_odds(heart(seconds=1).signal_mv, 100) is None
    assert rate_log_odds(np.zeros((12, 1000)), 100) is None


def test_exchanged_arm_electrodes_leave_limb_leads_in_agreement():
    record, sound = (changed(heart(), change) for change in (DAMAGE["the arms"][0], np.copy))
    sound, residual = (residual_of(LIMB, np.cov(one.signal_mv[:6])) for one in (sound, record))
    assert residual == pytest.approx(sound, abs=0.01)


def test_a_reversed_lead_is_found_where_no_third_limb_lead_says_so():
    record = of_rows(heart(), [0, 1, 6, 7, 8, 9, 10, 11])
    assert set(findings(changed(record, DAMAGE["I reversed"][0]))) == {"ecg.swapped_leads"}


@pytest.mark.parametrize("declared", [None, "mV", "uV"])
@pytest.mark.parametrize("header", ["mV", "uV"])
@pytest.mark.parametrize("factor", [1e-3, 0.1, 1.0, 10.0, 1000.0])
def test_units_of_a_record_have_one_finding_with_one_fix(declared, header, factor):
    record = heart(500.0)
    record = replace(
        record,
        signal_mv=record.signal_mv * np.float32(factor),
        units=header,
        header_units=header,
        header_rate_hz=500.0,
    )
    ecg = ECG(ECGSource(reader="wfdb", units=declared), ECGSettings())
    found = ecg.inspect(record, PLACE)
    wrong = factor != 1 or declared not in (None, header)
    assert [finding.code for finding in found] == ["ecg.wrong_units"] * wrong


def fast(seconds):
    """Play simulated beats twice as fast, with a true header."""
    records = [heart(100.0, beats=60 + 4 * seed, seed=seed, seconds=40) for seed in range(8)]
    return [
        replace(one, signal_mv=one.signal_mv[:, : 200 * seconds], rate_hz=200.0,
                header_rate_hz=200.0)
        for one in records
    ]  # fmt: skip


def test_hearts_twice_as_fast_are_a_warning_and_a_wrong_rate_is_an_error():
    for seconds, level in ((10, "warning"), (20, "warning"), (5, "error")):
        ecg = ECG(ECGSource(reader="wfdb"), ECGSettings(rate_hz=100))
        (found,) = ecg.inspect_together(fast(seconds))
        assert (found.code, found.level, found.scope) == ("ecg.wrong_rate", level, "cohort")
        assert "accept: {'*': [wrong_rate]}" in found.fix
        assert ("these hearts are fast" in found.what) == (level == "warning")
        ecg = ECG(ECGSource(reader="wfdb", accept={"*": ("wrong_rate",)}), ECGSettings())
        (found,) = ecg.inspect_together(fast(seconds))
        assert found.level == "warning"
        assert found.what.endswith("accepted in cohort.yaml")
