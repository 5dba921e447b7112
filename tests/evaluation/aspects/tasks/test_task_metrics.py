from dataclasses import replace

import numpy as np
import pytest
from made_targets import targets_of

from medmcl.evaluation import (
    Given,
    bootstrap,
    brier_at,
    c_index,
    c_index_ipcw,
    delong,
    evaluate_embeddings,
    integrated_brier,
    kaplan_meier,
    linear_probe,
    net_benefit,
    net_benefit_survival,
    time_dependent_auc,
)
from medmcl.evaluation.aspects.tasks.metrics import horizons_of
from medmcl.evaluation.models.cox_model import cox_model
from medmcl.evaluation.models.scaling import Scaler
from medmcl.evaluation.protocol.folds import CrossValidation
from medmcl.evaluation.protocol.predicted import with_baseline
from medmcl.evaluation.protocol.results import NOBODY_TOLD
from medmcl.evaluation.report.words import verdict

N = 900
RNG = np.random.default_rng(0)
SPLIT = np.array(["train"] * 500 + ["tuning"] * 150 + ["held_out"] * 250)
TRAIN, TUNING, HELD = (np.flatnonzero(s == SPLIT) for s in ("train", "tuning", "held_out"))
SUBJECTS = np.arange(N)
X = RNG.normal(size=(N, 4))


def survival(unit="days", horizons=(1.0, 3.0)):
    days = RNG.exponential(900 * np.exp(-X[:, 0]))
    ends = RNG.uniform(200, 2000, N)
    values = np.stack([np.minimum(days, ends), days <= ends], axis=1)
    return targets_of("survival", values, name="death", unit=unit, horizons_years=horizons)


def labels(width=1, rate=0.3):
    chance = 1 / (1 + np.exp(-(X[:, :1] + np.log(rate / (1 - rate)))))
    kind = "binary" if width == 1 else "multilabel"
    columns = tuple(f"y{k}" for k in range(width))
    return targets_of(kind, RNG.random((N, width)) < chance, columns=columns)


DEATH, LABEL = survival(), labels()


def score(features, targets, **more):
    return evaluate_embeddings(
        features, targets, SPLIT, SUBJECTS,
        **{"bootstrap_draws": 100, **more},
    )  # fmt: skip


def single(rows, method="x"):
    return {r.metric: r for r in rows if r.method == method and not r.versus}


def test_survival_rows_equal_the_metric_functions_on_the_probe_s_own_curves():
    rows = single(score({"x": X}, DEATH, shown=["x"]))
    fitted = linear_probe(X, DEATH, TRAIN, TUNING)
    time, event = DEATH.values[HELD].T
    before = (DEATH.values[TRAIN, 1], DEATH.values[TRAIN, 0])
    risk = fitted.predict(X[HELD])[:, 0]
    times = horizons_of(DEATH, HELD, TRAIN)
    assert rows["c_index"].value == pytest.approx(c_index(event, time, risk), abs=1e-12)
    tau = times.grid[-1]
    ipcw = c_index_ipcw(event, time, risk, censoring=before, tau=tau)
    assert rows["c_index_ipcw"].value == pytest.approx(ipcw, abs=1e-9)
    assert f"before {tau:.4g}" in rows["c_index_ipcw"].note
    assert "censoring weights from train" in rows["c_index_ipcw"].note
    for years in (1, 3):
        at = years * 365.25
        curve = fitted.survival(X[HELD], np.array([at]))[:, 0]
        auc = time_dependent_auc(event, time, 1 - curve, at, censoring=before).mean
        assert rows[f"auc_at_{years}y"].value == pytest.approx(auc, abs=1e-9)
        score_ = brier_at(event, time, curve, at, censoring=before).mean
        assert rows[f"brier_at_{years}y"].value == pytest.approx(score_, abs=1e-9)
        seen = 1 - kaplan_meier(event, time).at([at])[0]
        ratio = rows[f"observed_expected_at_{years}y"]
        assert ratio.value == pytest.approx(seen / (1 - curve).mean(), abs=1e-9)
        assert ratio.direction == "target"
        gain = rows[f"net_benefit_at_{years}y"]
        pt = float(gain.note.split("threshold of ")[1].split(",")[0])
        base = 1 - kaplan_meier(*before).at([at])[0]
        assert pt == pytest.approx(base, rel=0.05)
        known = net_benefit_survival(event, time, 1 - curve, at, [pt]).model[0]
        assert gain.value == pytest.approx(known, abs=1e-9)
    curves = fitted.survival(X[HELD], times.grid)
    whole = integrated_brier(event, time, curves, times.grid, censoring=before)
    assert rows["integrated_brier"].value == pytest.approx(whole, abs=1e-9)
    assert 0 <= rows["d_calibration_p"].value <= 1
    assert rows["d_calibration_p"].low is None


@pytest.mark.parametrize("when", ["nobody", "later"])
def test_without_an_event_by_the_horizon_no_number_looks_perfect(when):
    values = DEATH.values.copy()
    values[HELD, 1] = 0.0
    if when == "later":
        last = HELD[np.argsort(values[HELD, 0])[-20:]]
        values[last, 1] = 1.0
    rows = single(score({"x": X}, replace(DEATH, values=values)))
    for name in ("observed_expected_at_1y", "net_benefit_at_1y"):
        assert rows[name].value is None
        assert "no event" in rows[name].note


def test_without_a_positive_row_there_is_no_net_benefit():
    values = LABEL.values.copy()
    values[HELD] = 0.0
    row = single(score({"x": X}, replace(LABEL, values=values)))["net_benefit"]
    assert row.value is None
    assert "no event" in row.note


def test_horizons_beyond_follow_up_have_a_reason_and_the_grid_is_clamped():
    far = survival(horizons=(2.0, 20.0))
    rows = single(score({"x": X}, far))
    assert rows["brier_at_20y"].value is None
    assert "followed beyond" in rows["brier_at_20y"].note
    assert rows["brier_at_2y"].value is not None
    assert rows["net_benefit_at_20y"].value is None
    assert "no threshold" in rows["net_benefit_at_20y"].note
    assert rows["integrated_brier"].value is not None


def test_a_task_without_horizons_is_judged_at_the_median_follow_up_of_train():
    rows = single(score({"x": X}, survival(unit="days", horizons=())))
    names = [name for name in rows if name.startswith("brier_at_")]
    assert len(names) == 1
    middle = np.median(DEATH.values[TRAIN, 0])
    assert "median follow-up" in rows[names[0]].note
    assert float(names[0].removeprefix("brier_at_").split("_")[0]) == pytest.approx(middle, rel=0.3)


def test_risks_without_curves_have_discrimination_and_a_reason_for_the_rest():
    risk = np.where(SPLIT[:, None] == "held_out", X[:, :1], 0.0)
    rows = single(score({}, DEATH, predictions={"head": risk}, shown=["head"]), "head")
    assert rows["c_index"].value > 0.6
    for name in ("brier_at_1y", "integrated_brier", "auc_at_1y", "d_calibration_p"):
        assert rows[name].value is None
        assert "without survival curves" in rows[name].note


def test_the_baseline_hazard_of_a_head_is_the_one_of_cox_on_train_rows_alone():
    time, event = DEATH.values[TRAIN].T
    scaler = Scaler.of(X[TRAIN])
    cox, _ = cox_model(scaler(X[TRAIN]), event > 0, time, ridge=1.0)
    eta = scaler(X) @ cox.weights
    given = with_baseline(eta, DEATH, TRAIN, method="head")
    times = np.quantile(time, [0.2, 0.5, 0.9])
    assert given.survival(times) == pytest.approx(cox.survival(scaler(X), times), abs=1e-9)
    assert given.fitted[0].splits == ("train",)
    assert given.fitted[0].labels
    changed = DEATH.values.copy()
    changed[HELD] = 1.0
    same = with_baseline(eta, replace(DEATH, values=changed), TRAIN).survival(times)
    assert np.array_equal(same, given.survival(times))
    rows = single(score({}, DEATH, predictions={"head": given}), "head")
    assert rows["integrated_brier"].value is not None


def test_binary_rows_equal_the_functions_and_carry_their_operating_points():
    rows = single(score({"x": X}, LABEL))
    p = linear_probe(X, LABEL, TRAIN, TUNING).predict(X[HELD])[:, 0]
    y = LABEL.values[HELD, 0]
    for name in (
        "auroc", "auprc", "brier", "sensitivity_at_specificity", "tpr_at_top",
        "calibration_intercept", "calibration_slope",
    ):  # fmt: skip
        known = bootstrap(name, y, p, SUBJECTS[HELD], draws=100, seed=0)
        assert (rows[name].value, rows[name].low) == pytest.approx((known.value, known.low))
    share = float(f"{LABEL.values[TRAIN, 0].mean():.2g}")
    assert f"threshold of {share:g}" in rows["net_benefit"].note
    assert rows["net_benefit"].value == pytest.approx(net_benefit(y, p, [share]).model[0])
    assert "corrected for noise" in rows["ici"].note
    assert rows["calibration_slope"].direction == "target"


def test_a_larger_slope_is_no_gain_and_auroc_carries_delong():
    weak = X[:, :1] + 2 * RNG.normal(size=(N, 1))
    rows = score({"x": X, "weak": weak}, LABEL)
    gains = {r.metric: r for r in rows if r.versus}
    assert {r.versus for r in gains.values()} == {"x"}
    assert not {"calibration_slope", "calibration_intercept"} & set(gains)
    a, b = (linear_probe(f, LABEL, TRAIN, TUNING).predict(f[HELD])[:, 0] for f in (weak, X))
    test = delong(LABEL.values[HELD, 0], a, b, SUBJECTS[HELD])
    assert gains["auroc"].p_value == pytest.approx(test.p)
    assert gains["auroc"].value == pytest.approx(test.value)
    assert "DeLong" in gains["auroc"].note
    assert "bootstrap" in gains["brier"].note
    seeds = score({"x": [X, X[:, ::-1].copy()], "weak": [weak, weak]}, LABEL)
    (several,) = [r for r in seeds if r.versus and r.metric == "auroc"]
    assert "DeLong" not in several.note
    assert several.p_value is not None
    assert all(r.p_value is None for r in seeds if not r.versus)
    for row in [r for r in rows if r.versus]:  # p and the interval of the bootstrap agree
        if "bootstrap" in row.note and not 0.02 < row.p_value < 0.1:  # 100 draws are coarse
            assert (row.p_value < 0.05) == (row.low > 0 or row.high < 0), row.metric


def test_metrics_beyond_the_basic_ones_stand_at_the_largest_fraction_only():
    rows = score({"x": X}, LABEL, fractions=(0.1, 1.0), draws=2)
    small = {r.metric for r in rows if r.label_fraction == 0.1}
    assert small == {"auroc", "auprc", "brier"}
    assert "calibration_slope" in {r.metric for r in rows if r.label_fraction == 1}


def test_many_columns_have_fewer_draws_and_the_smoothed_curve_is_said_to_be_left_out():
    many = labels(width=9)
    rows = score({"x": X}, many, bootstrap_draws=300)
    curves = [r for r in rows if r.metric == "ici" and not r.versus]
    assert [r.target for r in curves] == ["macro", *many.columns]
    assert all(r.value is None and "not computed: more than 8" in r.note for r in curves)
    lost = [r for r in rows if r.metric == "ici" and r.versus]
    assert all(r.value is None and "not computed: more than 8" in r.note for r in lost)
    slopes = [r for r in rows if r.metric == "calibration_slope"]
    assert [r.target for r in slopes] == ["macro", *many.columns]
    assert all("200 draws" in r.note for r in slopes)


@pytest.mark.parametrize("protocol", ["linear_probe", "knn", "cox", "discrete_time"])
def test_every_survival_protocol_gives_curves(protocol):
    rows = single(score({"x": X}, DEATH, protocol=protocol))
    assert rows["c_index"].value > 0.6
    assert rows["integrated_brier"].value < 0.25
    assert {r.protocol for r in rows.values()} == {protocol}


def test_out_of_fold_survival_has_curves_and_weighs_itself():
    few = np.arange(0, N, 4)
    part = DEATH.take(few)
    rows = single(
        evaluate_embeddings(
            {"x": X[few]},
            part,
            SPLIT[few],
            SUBJECTS[few],
            bootstrap_draws=50,
            cross_validation=CrossValidation(folds=5, repeats=5, refit="probe", unseen=few >= 0),
        )
    )
    assert rows["integrated_brier"].value is not None
    assert "from the scored rows" in rows["integrated_brier"].note


def test_given_predictions_name_how_they_were_made():
    p = np.full((N, 1), 0.3)
    rows = score({}, LABEL, predictions={"flat": Given(values=p, protocol="by hand")})
    assert {r.protocol for r in rows} == {"by hand"}
    slope = single(rows, "flat")["calibration_slope"]
    assert slope.value is None
    assert slope.note


def test_events_of_a_horizon_are_those_by_then():
    rows = score({"x": X, "weak": X[:, 1:]}, DEATH)
    time, event = DEATH.values[HELD].T
    for row in rows:
        by = {"1y": 365.25, "3y": 3 * 365.25}.get(row.metric.partition("_at_")[2], np.inf)
        if row.events is not None:
            assert row.events == int(((event > 0) & (time <= by)).sum()), row.metric


def rare(count):
    """The task of labels with so many positives among those held out."""
    values = LABEL.values.copy()
    values[HELD[count:]] = 0
    values[HELD[:count]] = 1
    return replace(LABEL, values=values)


@pytest.mark.parametrize("count", [9, 10])
def test_below_ten_events_there_is_no_test_and_no_calibration_index(count):
    rows = score({"x": X, "weak": X[:, 1:]}, rare(count))
    (gain,) = [row for row in rows if row.versus and row.metric == "auroc"]
    assert (gain.p_value is not None) == ("DeLong" in gain.note) == (count == 10)
    assert ("too few events (9) for a verdict" in gain.note) == (count == 9)
    assert gain.low < gain.value < gain.high
    assert f"weak: {NOBODY_TOLD}" in gain.note  # noise, at its strongest penalty
    for name in ("ici", "ici_uncorrected"):
        row = single(rows)[name]
        assert (row.value is None) == ("a curve needs at least 10" in row.note) == (count == 9)


@pytest.mark.parametrize("count", [9, 10])
def test_a_mean_over_classes_is_decided_by_the_rarest(count):
    values = np.digitize(X[:, :1] + RNG.normal(size=(N, 1)), [0.0]).astype(float)
    values[::7] = 2
    values[HELD] = np.minimum(values[HELD], 1)
    values[HELD[:count]] = 2
    classes = targets_of("multiclass", values)
    rows = score({"x": X, "weak": X[:, 1:]}, classes, bootstrap_draws=30)
    gains = {r.target: r for r in rows if r.versus and r.metric == "auroc"}
    for name in ("macro", "c"):
        assert (gains[name].p_value is None) == (count == 9)
        assert ("too few events (9) for a verdict" in verdict(gains[name])) == (count == 9)
    assert gains["a"].p_value is not None
