from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from medmcl import evaluation as e
from medmcl.evaluation import auroc, bootstrap, c_index, paired_difference
from medmcl.evaluation.metrics.intervals import Resampling
from medmcl.evaluation.metrics.sampled import ALL_THE_SAME, Sampled, in_brackets, mean_of


@pytest.fixture
def data():
    rng = np.random.default_rng(1)
    y = (rng.random(120) < 0.4).astype(float)
    return y, y + rng.normal(size=120)


def test_the_vectorised_bootstrap_equals_a_loop_over_copied_rows(data):
    y, s = data

    def foreign(targets, predictions):
        return float(auroc(targets, predictions))

    fast = bootstrap("auroc", y, s, draws=60, seed=3)
    slow = bootstrap(foreign, y, s, draws=60, seed=3)
    assert (fast.value, fast.low, fast.high) == pytest.approx((slow.value, slow.low, slow.high))


def test_a_metric_may_be_named_or_given(data):
    y, s = data
    assert bootstrap("auroc", y, s, draws=50) == bootstrap(auroc, y, s, draws=50)
    assert bootstrap("auroc", y, s, draws=50, seed=1) != bootstrap(auroc, y, s, draws=50, seed=2)


def test_duplicated_records_widen_the_interval_only_if_clustered(data):
    y, s = np.tile(data[0], 4), np.tile(data[1], 4)
    subjects = np.tile(np.arange(120), 4)
    single = bootstrap("auroc", *data, draws=400)
    naive = bootstrap("auroc", y, s, draws=400)
    clustered = bootstrap("auroc", y, s, subjects, draws=400)
    assert clustered.subjects == 120
    assert (clustered.low, clustered.high) == pytest.approx((single.low, single.high))
    assert naive.high - naive.low < 0.65 * (clustered.high - clustered.low)


def test_draws_in_blocks_are_the_draws_of_one_piece(data, monkeypatch):
    from medmcl.evaluation.metrics import intervals

    whole = bootstrap("auroc", *data, draws=50)
    monkeypatch.setattr(intervals, "ENTRIES_AT_ONCE", 120 * 7)
    assert bootstrap("auroc", *data, draws=50) == whole


def test_weights_of_a_draw_sum_to_the_number_of_subjects():
    sampler = Resampling(["b", "a", "b", "c"], draws=20)
    (weights,) = sampler.blocks()
    assert (weights[0] == weights[2]).all()
    assert (weights[[0, 1, 3]].sum(axis=0) == 3).all()


@pytest.mark.parametrize(
    ("metric", "targets", "subjects", "words"),
    [
        ("auroc", np.ones(9), None, "one class"),
        ("c_index", (np.zeros(9), np.arange(9.0)), None, "no event"),
        ("auroc", np.arange(9) % 2, np.zeros(9), "one subject"),
        ("auroc", np.zeros(0), None, "no rows"),
    ],
)
def test_what_is_not_estimable_is_stated_and_never_nan(metric, targets, subjects, words):
    size = len(targets[0] if isinstance(targets, tuple) else targets)
    found = bootstrap(metric, targets, np.arange(size, dtype=float), subjects, draws=30)
    assert words in found.note
    assert found.low is None
    assert found.high is None
    assert found.value is None or np.isfinite(found.value)


def test_draws_without_a_positive_are_left_out_and_counted():
    y = np.zeros(30)
    y[:2] = 1
    found = bootstrap("auroc", y, np.sin(np.arange(30.0)), draws=300)
    assert "draws were not estimable" in found.note
    assert found.low is not None


def test_few_subjects_are_marked_as_rough(data):
    found = bootstrap("auroc", data[0][:12], data[1][:12], draws=50)
    assert "rough" in found.note


def test_the_paired_difference_takes_plain_arrays_for_a_single_seed(data):
    y, s = data[0], data[1]
    listed = paired_difference("auroc", y, [s], [-s], draws=30)
    assert paired_difference("auroc", y, s, -s, draws=30) == listed
    assert paired_difference("auroc", y, s.tolist(), [-s], draws=30) == listed
    assert listed.value > 0


@pytest.mark.parametrize("metric", ["auroc", "ici"])
def test_the_paired_difference_of_a_method_with_itself_is_zero(data, metric):
    y, p = data[0], 1 / (1 + np.exp(-data[1]))
    found = paired_difference(metric, y, [p, p + 0.0], [p, p], draws=30)
    assert (found.value, found.low, found.high, found.seed_spread) == (0, 0, 0, 0)
    assert ("corrected for noise" in found.note) == (metric == "ici")


def test_pairing_is_tighter_than_two_separate_intervals(data):
    y, s = data
    rng = np.random.default_rng(0)
    a, b = s + 0.1 * rng.normal(size=120), s + 0.1 * rng.normal(size=120)
    pair = paired_difference("auroc", y, [a], [b], draws=300)
    alone = bootstrap("auroc", y, a, draws=300)
    assert pair.high - pair.low < 0.6 * (alone.high - alone.low)


def test_a_difference_over_seeds_is_the_mean_with_the_spread_beside(data):
    y, s = data
    rng = np.random.default_rng(0)
    ours = [s + rng.normal(size=120) for _ in range(3)]
    single = paired_difference("auroc", y, ours, [s], draws=40)
    values = [auroc(y, one) - auroc(y, s) for one in ours]
    assert single.value == pytest.approx(np.mean(values))
    assert single.seed_spread == pytest.approx(np.std(values, ddof=1))
    assert single.seeds == 3
    uneven = paired_difference("auroc", y, ours, [s, s], draws=40)
    assert "not paired" in uneven.note
    assert uneven.value == pytest.approx(np.mean(values))


def test_the_macro_mean_has_the_draws_of_its_columns(data):
    y, s = data
    sampler = Resampling(np.arange(120), draws=30)
    good = sampler.sample("auroc", (y,), [s])
    bad = sampler.sample("auroc", (np.ones(120),), [s])
    mean = mean_of([good, bad], ["a", "b"])
    assert (mean.draws == good.draws).all()
    assert "not estimable: b" in mean.note
    assert mean_of([bad, bad], ["a", "b"]).interval().value is None


def test_coverage_of_the_auroc_interval_is_roughly_nominal():
    from scipy.stats import norm

    truth, hits = norm.cdf(1 / np.sqrt(2)), 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        y = (rng.random(150) < 0.5).astype(float)
        found = bootstrap("auroc", y, y + rng.normal(size=150), draws=200, seed=seed)
        hits += found.low <= truth <= found.high
    assert hits >= 51


def test_strata_keep_the_number_of_subjects_of_each_outcome(data):
    y, _ = data
    sampler = Resampling(np.arange(120), draws=30, strata=y)
    (weights,) = sampler.blocks()
    assert (weights[y > 0].sum(axis=0) == y.sum()).all()
    assert (weights.sum(axis=0) == 120).all()
    assert (weights.max(axis=0) > 1).all()


@pytest.mark.parametrize("how", [{}, {"strata": np.arange(900) % 3}])
def test_blocks_of_many_rows_are_drawn_in_one_place_and_are_the_same_draws(monkeypatch, how):
    sampler = Resampling(np.arange(900) // 2, draws=50, **how)
    (whole,) = Resampling(np.arange(900) // 2, draws=50, **how).blocks()
    monkeypatch.setattr("medmcl.evaluation.metrics.intervals.ENTRIES_AT_ONCE", 900 * 20)
    monkeypatch.setattr("medmcl.evaluation.metrics.intervals.DRAWN_AT_ONCE", 450 * 3)
    blocks = [(block, block.copy()) for block in sampler.blocks()]
    assert [block.shape for block, _ in blocks] == [(900, 20), (900, 20), (900, 10)]
    assert all(np.shares_memory(blocks[0][0], block) for block, _ in blocks)
    if not how:  # of strata each block is drawn stratum by stratum
        assert np.array_equal(np.hstack([block for _, block in blocks]), whole)


def test_what_draws_the_weights_holds_little_beside_them():
    sampler = Resampling(np.arange(20_000), draws=200).over(np.arange(20_000))
    assert sampler.num_subjects == 20_000
    tracemalloc.start()
    sizes = [block.nbytes for block in sampler.blocks()]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.6 * max(sizes)


def test_a_subject_of_both_outcomes_is_drawn_whole_with_the_positives():
    subjects, y = np.array([0, 0, 1, 2, 3, 3]), np.array([0, 1, 0, 0, 1, 1])
    (weights,) = Resampling(subjects, draws=40, strata=y).blocks()
    assert (weights[0] == weights[1]).all()
    assert (weights[1] + weights[4] == 2).all()
    assert (weights[2] + weights[3] == 2).all()


def test_differences_between_sites_widen_the_interval_only_if_sites_are_drawn():
    rng = np.random.default_rng(0)
    sites = np.repeat(np.arange(8), 40)
    shift = rng.normal(size=8)[sites]
    y = (rng.random(320) < 0.4).astype(float)
    score = shift * (2 * y - 1) + rng.normal(size=320)
    blind = bootstrap("auroc", y, score, draws=200)
    whole = bootstrap("auroc", y, score, draws=200, clusters=sites)
    assert whole.high - whole.low > 1.5 * (blind.high - blind.low)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"strata": np.arange(6), "clusters": np.arange(6)}, "not both"),
        ({"clusters": np.arange(6)}, "several clusters"),
        ({"strata": np.arange(5)}, "5 strata for 6 rows"),
        ({"strata": "sex"}, "'outcome'"),
    ],
)
def test_strata_and_clusters_that_make_no_sense_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        bootstrap("mae", np.arange(6.0), np.arange(6.0), [0, 0, 1, 1, 2, 2], draws=5, **settings)


def test_p_is_the_level_at_which_the_percentile_interval_touches_zero(data):
    y, s = data
    sampler = Resampling(np.arange(120), draws=1999)
    checked = 0
    for seed in range(12):
        other = s + 0.5 * np.random.default_rng(seed).normal(size=120)
        apart = sampler.sample("auroc", (y,), [s]).minus(sampler.sample("auroc", (y,), [other]))
        p = apart.p_value()
        if 0.02 < p < 0.95:
            inside, outside = apart.interval(1 - p - 0.004), apart.interval(1 - p + 0.004)
            assert inside.low > 0 or inside.high < 0
            assert outside.low <= 0 <= outside.high
            checked += 1
    assert checked >= 4
    same = sampler.sample("auroc", (y,), [s])
    assert same.minus(same).p_value() == 1.0


def test_p_of_two_methods_alike_is_small_as_seldom_as_it_says():
    small = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        y = (rng.random(150) < 0.4).astype(float)
        sampler = Resampling(np.arange(150), draws=400, seed=seed)
        a, b = (sampler.sample("auprc", (y,), [y + 1.5 * rng.normal(size=150)]) for _ in range(2))
        small += a.minus(b).p_value() < 0.05
    assert 2 <= small <= 20


@pytest.mark.parametrize(
    ("metric", "targets", "predictions"),
    [
        ("auroc", np.repeat([0.0, 1.0], [7, 5]), np.arange(12.0)),
        ("auroc", np.repeat([0.0, 1.0], [7, 5]), np.zeros(12)),
        ("c_index", (np.ones(12), np.arange(12.0)), -np.arange(12.0)),
        ("r2", np.arange(12.0), np.arange(12.0)),
        (lambda y, p: 1.0, np.arange(12.0), np.arange(12.0)),  # any other, as recall@1 of all
    ],
)
def test_draws_that_all_give_the_same_are_no_interval(metric, targets, predictions):
    found = bootstrap(metric, targets, predictions, draws=60)
    assert (found.low, found.high, found.least) == (None, None, found.value)
    assert ALL_THE_SAME in found.note


def test_a_difference_of_alike_methods_is_an_interval_only_where_they_vary_themselves(data):
    y, s = data
    alike = paired_difference("auroc", y, s, 2 * s, draws=60)  # the same order of people
    assert (alike.value, alike.low, alike.high) == (0, 0, 0)
    perfect = paired_difference("auroc", y, y, 2 * y, draws=60)  # both 1 in every draw
    assert (perfect.value, perfect.low, perfect.high) == (0, None, None)
    assert ALL_THE_SAME in perfect.note
    ahead = paired_difference("auroc", y, y, s, draws=60)
    assert 0 < ahead.low < ahead.value
    how = Resampling(draws=60).over(y)
    one, two, best = (how.sample("auroc", (y,), [p]) for p in (s, 2 * s, y))
    assert one.minus(two).p_value() == 1
    assert best.minus(best).p_value() is None
    mean = mean_of([one.minus(two), best.minus(best)], ["a", "b"]).interval()
    assert (mean.low, mean.high) == (0, 0)


def test_the_paired_difference_takes_strata(data):
    y, s = data
    rng = np.random.default_rng(0)
    other = s + rng.normal(size=120)
    found = paired_difference("auroc", y, [s], [other], draws=200, strata="outcome")
    assert found.low < found.value < found.high


def test_noise_is_taken_off_a_mean_of_distances_as_in_squares():
    draws = np.array([0.05, 0.04, 0.06])
    sampled = Sampled(points=np.array([0.04]), draws=draws, n=9, events=4, subjects=9)
    assert sampled.corrected().points[0] == 0.04
    found = replace(sampled, inflated=True).corrected()
    noise = 0.05**2 - 0.04**2
    assert found.points[0] == pytest.approx(np.sqrt(0.04**2 - noise))
    assert found.draws == pytest.approx(np.sqrt(np.maximum(draws**2 - 2 * noise, 0)))
    assert found.note == "corrected for noise"  # the number before stands in its own row
    assert not found.inflated


def test_the_macro_mean_of_ici_is_the_mean_of_corrected_values(data):
    y, s = data
    sampler = Resampling(np.arange(120), draws=30)
    parts = [sampler.sample("ici", (y,), [1 / (1 + np.exp(-k * s))]) for k in (1.0, 2.0)]
    found = mean_of(parts, ["a", "b"])
    assert found.points[0] == pytest.approx(np.mean([p.corrected().points[0] for p in parts]))


@pytest.mark.parametrize("cut", ["targets", "predictions", "subjects", "second"])
def test_unequal_lengths_are_refused_with_both(data, cut):
    y, s = data
    arrays = {"targets": y, "predictions": s, "subjects": np.arange(120), "second": s}
    arrays[cut] = arrays[cut][:100]
    subjects = None if cut in ("targets", "predictions") else arrays["subjects"]
    with pytest.raises(ValueError, match="equal lengths") as said:
        paired_difference(
            "auroc",
            arrays["targets"],
            [arrays["predictions"]],
            [arrays["second"]],
            subjects,
            draws=5,
        )
    assert "100" in str(said.value)
    assert "120" in str(said.value)
    if cut != "second":
        with pytest.raises(ValueError, match="equal lengths"):
            bootstrap("auroc", arrays["targets"], arrays["predictions"], subjects, draws=5)


def test_settings_that_do_not_exist_are_refused(data):
    y, s = data
    wrong = [
        ({"level": 95}, "level"),
        ({"level": float("nan")}, "level"),
        ({"draws": 0}, "draws"),
        ({"draws": -1}, "draws"),
        ({"draws": 1.5}, "draws"),
        ({"subjects": np.where(np.arange(120) < 3, np.nan, np.arange(120))}, "3 of 120 missing"),
        ({"subjects": [None, *map(str, range(119))]}, "1 of 120 missing"),
        ({"subjects": np.array([1, *map(str, range(119))], dtype=object)}, "one kind"),
    ]
    for settings, text in wrong:
        with pytest.raises(ValueError, match=text):
            bootstrap("auroc", y, s, **settings)
    with pytest.raises(ValueError, match=r"predictions must be \(N,\)"):
        paired_difference("auroc", y, 0.5, [s])
    with pytest.raises(ValueError, match=r"baseline must be \(N,\)"):
        paired_difference("auroc", y, [s], 0.5)


def test_survival_metrics_and_net_benefit_are_bootstrapped():
    rng = np.random.default_rng(3)
    risk = rng.normal(size=80)
    died, left = rng.exponential(np.exp(-risk)), rng.exponential(1.5, 80)
    outcome = (died <= left, np.minimum(died, left))
    times = [0.2, 0.5, 0.8]
    curves = np.exp(-np.exp(risk)[:, None] * np.array(times))
    named = bootstrap("c_index_ipcw", outcome, risk, draws=30)
    assert named == bootstrap(e.c_index_ipcw, outcome, risk, draws=30)
    assert named == bootstrap(e.c_index_ipcw_metric(), outcome, risk, draws=30)
    assert named.value == e.c_index_ipcw(*outcome, risk)
    fast = bootstrap(e.integrated_brier_metric(times), outcome, curves, draws=30)
    slow = bootstrap(lambda *a: e.integrated_brier(*a, times), outcome, curves, draws=30)
    assert (fast.value, fast.low, fast.high) == pytest.approx((slow.value, slow.low, slow.high))
    assert fast.low < fast.value < fast.high
    plain = bootstrap("c_index", outcome, risk, draws=30)
    assert (plain.value, plain.events) == (c_index(*outcome, risk), outcome[0].sum())
    assert bootstrap(e.auc_metric(0.5), outcome, risk, draws=30).value > 0.5
    assert bootstrap(e.brier_metric(0.5), outcome, curves[:, 1], draws=30).low > 0
    y, p = outcome[0], 1 - curves[:, 2]
    benefit = bootstrap(e.net_benefit_metric(0.3), y, p, draws=30)
    assert benefit.value == e.net_benefit(y, p, 0.3).model[0]
    for name in ("integrated_brier", "brier_at", "time_dependent_auc", "net_benefit"):
        with pytest.raises(ValueError, match="needs a setting") as said:
            bootstrap(name, outcome, risk)
        assert "_metric(" in str(said.value)
    with pytest.raises(ValueError, match="must give a number"):
        bootstrap(lambda *a: e.brier_at(*a, times), outcome, curves, draws=5)


def test_draws_without_a_rare_class_average_the_others():
    y = np.repeat([0.0, 1.0, 2.0], [30, 30, 1])
    p = np.where(np.arange(61) % 5 == 0, (y + 1) % 3, y)
    sampler = Resampling(np.arange(61), draws=50)
    found = sampler.sample("balanced_accuracy", (y,), [p])
    assert not np.isnan(found.draws).any()
    (block,) = sampler.blocks()
    draw = int(np.flatnonzero(block[60] == 0)[0])
    rows = np.repeat(np.arange(61), block[:, draw].astype(int))
    expected = np.mean([(p == y)[rows][y[rows] == k].mean() for k in (0, 1)])
    assert found.draws[draw] == pytest.approx(expected)


def test_what_rounds_to_nothing_has_no_sign_of_its_own():
    assert in_brackets(-0.0002, -0.0004, 0.0) == "0.000 (0.000 to 0.000)"
    assert in_brackets(-0.0002, -0.012, 0.01, "+") == "+0.000 (-0.012 to +0.010)"
