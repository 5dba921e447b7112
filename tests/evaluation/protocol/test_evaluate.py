from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from multiprocessing.context import ForkProcess

import numpy as np
import pytest
from made_targets import targets_of

from medmcl.core.errors import ConfigError
from medmcl.data.loading import worker_pool
from medmcl.evaluation import METRICS, auroc, delong, evaluate_embeddings, evaluate_task
from medmcl.evaluation.aspects.tasks.metrics import Thresholds, horizons_of
from medmcl.evaluation.metrics.sampled import ALL_THE_SAME
from medmcl.evaluation.models.cross_validation import FoldFeatures, draw_folds, strata_of
from medmcl.evaluation.models.probe import linear_probe
from medmcl.evaluation.protocol.folds import CrossValidation
from medmcl.evaluation.protocol.predicted import Method
from medmcl.evaluation.protocol.subsets import label_subset

N = 300
RNG = np.random.default_rng(0)
SPLIT = np.array(["train"] * 180 + ["tuning"] * 50 + ["held_out"] * 70)
SUBJECTS = np.arange(N)
Z = RNG.normal(size=(N, 3))
GOOD = Z + 0.2 * RNG.normal(size=(N, 3))
BAD = RNG.normal(size=(N, 3))


def make(kind):
    noise = 0.3 * RNG.normal(size=(N, 3))
    if kind == "regression":
        return targets_of(kind, Z + noise)
    if kind == "multilabel":
        return targets_of(kind, Z + noise > 0.5)
    if kind == "survival":
        waits = RNG.exponential(np.exp(-2 * Z[:, 0]))
        return targets_of(kind, np.stack([waits, RNG.random(N) < 0.6], axis=1))
    if kind == "multiclass":
        return targets_of(kind, Z[:, 0] > 0, classes=("low", "high"))
    return targets_of(kind, Z[:, 0] > 0.5)


def fast(features, targets, **kwargs):
    options = {"bootstrap_draws": 60, "draws": 2, **kwargs}
    split = options.pop("split", SPLIT)
    return evaluate_embeddings(features, targets, split, SUBJECTS, **options)


@pytest.mark.parametrize("kind", sorted(METRICS))
def test_every_kind_gives_finite_rows_and_a_paired_gain(kind):
    rows = fast({"good": GOOD, "bad": BAD}, make(kind), fractions=(0.2, 1.0), baseline="bad")
    basic = [row for row in rows if row.label_fraction == 0.2]
    assert {row.metric for row in basic} == set(METRICS[kind])
    assert {row.metric for row in rows} >= set(METRICS[kind])
    assert {row.label_fraction for row in rows} == {0.2, 1.0}
    undefined = {row.metric for row in rows if row.value is None}
    hardly = {(r.metric, r.method) for r in rows if r.value is None and "hardly vary" in r.note}
    assert hardly <= {("calibration_slope", "bad")}  # noise at its strongest penalty
    none = {"net_benefit"} if kind == "multiclass" else set()
    assert undefined == none | {metric for metric, _ in hardly}
    raw = "ici_uncorrected"  # its draws would lie above it
    assert all(
        (row.low is not None) == (row.metric != raw and ALL_THE_SAME not in row.note)
        for row in rows
        if row.value is not None
    )
    assert {row.seeds for row in rows if row.label_fraction == 0.2} == {2}
    first = METRICS[kind][0]
    gains = [r for r in rows if r.versus and r.metric == first and r.label_fraction == 1]
    assert gains
    assert all(row.method == "good" and row.versus == "bad" for row in gains)
    assert gains[0].low > 0
    values = {r.method: r.value for r in rows if r.target == gains[0].target and not r.versus
              and r.metric == first and r.label_fraction == 1}  # fmt: skip
    assert gains[0].value == pytest.approx(values["good"] - values["bad"])


@pytest.mark.parametrize("kind", sorted(METRICS))
def test_copies_of_this_process_find_the_same_to_the_last_bit(kind, monkeypatch):
    targets, told, found = make(kind), [], []
    started = Counter()
    real = ForkProcess.start
    monkeypatch.setattr(ForkProcess, "start", lambda self: started.update("1") or real(self))
    monkeypatch.setattr(worker_pool, "_WORTH_COPIES", 0.0)
    more = {"fractions": (0.2, 1.0), "draws": 2, "bootstrap_draws": 60, "shown": ("good", "bad")}
    more |= {"subgroups": {"half": np.where(SUBJECTS % 2, "odd", "even")}, "told": told.append}
    methods = {"good": GOOD, "bad": BAD}
    for count in (0, 2):
        with worker_pool.worker_pool(count):
            found.append(evaluate_task(methods, targets, SPLIT, SUBJECTS, **more))
        assert told == sorted(told)
        assert told.pop() <= 1
        told.clear()
        assert bool(started) == bool(count)
    alone, shared = found
    for name in ("results", "evidence", "subgroups", "fitted"):
        ours, theirs = (repr(getattr(one, name)) for one in found)
        assert re.sub(" at 0x[0-9a-f]+", "", ours) == re.sub(" at 0x[0-9a-f]+", "", theirs)
    for one, other in zip(alone.tables, shared.tables, strict=True):
        assert list(one.sampled) == list(other.sampled)
        for (line, sampled), (_, more) in zip(
            one.sampled.values(), other.sampled.values(), strict=True
        ):
            assert np.array_equal(sampled.draws, more.draws, equal_nan=True), line.metric


@pytest.mark.parametrize("kind", sorted(METRICS))
def test_shuffled_held_out_outcomes_do_not_change_predictions_but_end_the_skill(kind):
    targets = make(kind)
    values = targets.values.copy()
    held = np.flatnonzero(SPLIT == "held_out")
    values[held] = values[np.random.default_rng(1).permutation(held)]
    rows = fast({"good": GOOD}, replace(targets, values=values))
    first = rows[0]
    assert first.metric == METRICS[kind][0]
    chance = 0.0 if kind == "regression" else 0.5
    assert first.value < chance + 0.2


def test_all_methods_are_scored_on_the_rows_that_all_have():
    present = {"bad": SUBJECTS % 2 == 0}
    rows = fast({"good": GOOD, "bad": BAD}, make("binary"), present=present)
    assert {row.n for row in rows} == {35}
    assert all("35 labelled rows lack" in row.note for row in rows if not row.versus)


def test_given_predictions_are_scored_as_they_are_and_compared():
    targets = make("binary")
    scores = np.zeros((N, 1))
    held = SPLIT == "held_out"
    scores[held] = targets.values[held]
    rows = fast({"good": GOOD}, targets, fractions=(0.2, 1.0), predictions={("tuned", 0.2): scores})
    tuned = next(row for row in rows if row.method == "tuned" and row.metric == "auroc")
    assert (tuned.value, tuned.protocol, tuned.label_fraction) == (1.0, "fine_tune", 0.2)
    gain = [row for row in rows if row.method == "tuned" and row.versus == "good"]
    assert {row.label_fraction for row in gain} == {0.2}
    alone = fast({}, targets, predictions={"tuned": [scores, scores]})
    assert {row.seeds for row in alone} == {2}


def test_a_constant_prediction_is_said_to_be_one_where_it_ranks():
    targets = make("multilabel")
    values = np.clip(0.5 + 0.1 * GOOD, 0, 1)
    values[:, 0] = 0.3
    rows = fast({}, targets, predictions={"mine": values})
    auroc = {row.target: row for row in rows if row.metric == "auroc"}
    first, *others = targets.columns
    assert auroc[first].value == 0.5
    assert auroc[first].note == f"{ALL_THE_SAME}; constant prediction"
    assert {auroc[one].note for one in ("macro", *others)} == {""}
    assert all("constant" not in row.note for row in rows if row.metric == "brier")


def test_scores_that_are_no_probabilities_have_no_brier_score():
    rows = fast({}, make("binary"), predictions={"zero-shot": 5 * GOOD[:, :1]})
    found = {row.metric: row for row in rows}
    assert found["auroc"].value > 0.8
    assert found["brier"].value is None
    assert "not probabilities" in found["brier"].note


EVERYONE = CrossValidation(folds=5, repeats=5, refit="probe", unseen=np.ones(N, bool))


@pytest.mark.parametrize("people", [40, 499, 500])
def test_at_every_size_train_is_fitted_tuning_chosen_on_and_held_out_scored(people):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(people, 2))
    split = np.where(np.arange(people) % 4 == 0, "held_out", "train")
    split[1::4] = "tuning"
    task = targets_of("binary", x[:, 0] > 0)
    seen = []

    def spy(features, targets, train, tuning, **more):
        seen.append((set(split[train]), set(split[tuning])))
        return linear_probe(features, targets, train, tuning, **more)

    found = evaluate_embeddings({"x": Method(features=x, fit=spy, protocol="linear_probe")}, task,
                                split, np.arange(people), bootstrap_draws=20)  # fmt: skip
    assert seen == [({"train"}, {"tuning"})]
    assert {row.split for row in found} == {"held_out"}
    assert {row.n for row in found} == {int((split == "held_out").sum())}
    assert {row.train_subjects for row in found} == {int((split == "train").sum())}
    assert {row.tuning_subjects for row in found} == {int((split == "tuning").sum())}
    labelled = (split == "train") & (x[:, 0] > 0)
    assert {row.train_events for row in found} == {int(labelled.sum())}


def memorised(leaky):
    """Features of seen people that name their label, and noise of all others."""
    task = make_of("binary")
    named = 9 * task.values + 0.1 * BAD
    return task, np.where(np.isin(SPLIT, leaky)[:, None], named, BAD)


def test_only_people_whom_no_stage_has_seen_are_scored_in_folds_of_probes():
    task, x = memorised(("train", "tuning"))
    unseen = SPLIT == "held_out"
    how = CrossValidation(folds=5, repeats=2, refit="probe", unseen=unseen)
    rows = fast({"x": x}, task, cross_validation=how)
    auroc = next(row for row in rows if row.metric == "auroc")
    assert auroc.low < 0.5 < auroc.high
    assert auroc.n == int(unseen.sum())
    assert auroc.protocol == "linear_probe, 5 x 2-fold by subject, probes refitted"
    assert "only people that no stage has seen are scored (held_out)" in auroc.note
    everybody = CrossValidation(folds=5, repeats=2, refit="probe", unseen=np.ones(N, bool))
    lie = next(r for r in fast({"x": x}, task, cross_validation=everybody) if r.metric == "auroc")
    assert lie.value > 0.8  # what the memory of pairs looked like before


def test_every_fold_reads_the_features_of_an_encoder_trained_without_its_people():
    task = make_of("binary")
    plan = tuple(draw_folds(SUBJECTS, strata_of(task), np.arange(N), name=task.name, repeats=1))
    every = [  # as encoders that learned their own people by heart would give them
        np.where(np.isin(np.arange(N), one.test)[:, None], BAD, 9 * task.values + 0.1 * BAD)
        for one in plan
    ]
    _, whole = memorised(("train", "tuning", "held_out"))
    method = Method(
        features=whole, fit=linear_probe, protocol="linear_probe",
        anew=tuple(FoldFeatures(features=x, fit=linear_probe) for x in every),
    )  # fmt: skip
    how = CrossValidation(folds=5, repeats=1, refit="all", unseen=np.ones(N, bool), plan=plan)
    row = next(r for r in fast({"x": method}, task, cross_validation=how) if r.metric == "auroc")
    assert row.low < 0.5 < row.high
    assert row.n == N
    assert "every stage was trained anew in each fold" in row.note
    by_hand = np.zeros(N)
    for x, (_, train, tuning, test) in zip(every, plan, strict=True):
        both = np.sort(np.concatenate([train, tuning]))
        made = linear_probe(x, task, train, tuning, refit_on=both).predict(x)[:, 0]
        by_hand[test] = (made[test] - made[both].mean()) / made[both].std()
    assert row.value == pytest.approx(auroc(task.values[:, 0], by_hand))


def test_fractions_that_keep_the_same_people_are_one_row():
    few = np.concatenate([np.flatnonzero(s == SPLIT)[:n] for s, n in
                          (("train", 13), ("tuning", 20), ("held_out", 40))])  # fmt: skip
    task = make_of("binary").take(few)
    rows = evaluate_embeddings({"x": GOOD[few]}, task, SPLIT[few], SUBJECTS[few], draws=3,
                               fractions=(0.01, 0.1, 1.0), bootstrap_draws=20)  # fmt: skip
    assert {row.label_fraction for row in rows} == {0.1, 1.0}
    few_labels = next(row for row in rows if row.label_fraction == 0.1)
    kept = label_subset(task, SUBJECTS[few], np.arange(13), 0.01)
    assert few_labels.train_subjects == len(kept) < 13
    assert few_labels.train_events == task.values[kept, 0].sum()
    assert "1 % of the labels are those of the same people" in few_labels.note
    tuned = {("tuned", 0.01): 1 / (1 + np.exp(-GOOD[few][:, :1])),
             ("tuned", 0.1): 1 / (1 + np.exp(-GOOD[few][:, :1]))}  # fmt: skip
    found = evaluate_embeddings({}, task, SPLIT[few], SUBJECTS[few], predictions=tuned, draws=3,
                                fractions=(0.01, 0.1), bootstrap_draws=20)  # fmt: skip
    assert {row.label_fraction for row in found} == {0.1}


def test_predictions_beside_folds_are_scored_on_held_out_and_not_compared():
    targets = make("binary")
    guess = np.where(SPLIT[:, None] == "held_out", 0.5, targets.values)  # perfect on train
    rows = fast({"good": GOOD}, targets, cross_validation=EVERYONE, predictions={"tuned": guess})
    tuned = [row for row in rows if row.method == "tuned" and row.metric == "auroc"]
    assert tuned[0].value == 0.5
    assert {row.n for row in tuned if not row.versus} == {70}
    assert {row.split for row in tuned} == {"held_out"}
    (apart,) = [row for row in tuned if row.versus]
    assert apart.value is None
    assert "tuned and good are scored on other people" in apart.note


@pytest.mark.parametrize("kind", sorted(METRICS))
def test_no_outcome_in_the_scored_split_is_stated_not_nan(kind):
    targets = make(kind)
    known = targets.known.copy()
    known[SPLIT == "held_out"] = False
    rows = fast({"good": GOOD}, replace(targets, values=targets.values * known, known=known))
    assert rows
    assert all(row.value is None and row.note for row in rows)


def test_one_class_in_the_scored_split_is_stated():
    targets = make("binary")
    values = targets.values.copy()
    values[SPLIT == "held_out"] = 0
    found = {row.metric: row for row in fast({"good": GOOD}, replace(targets, values=values))}
    assert found["auroc"].value is None
    assert "one class" in found["auroc"].note
    assert found["brier"].value is None  # a low risk for all would look perfect
    assert "no event" in found["brier"].note


def test_training_seeds_are_averaged_with_their_spread():
    rows = fast({"good": [GOOD, GOOD[:, ::-1].copy()], "bad": [BAD, BAD]}, make("binary"))
    assert {row.seeds for row in rows} == {2}


def test_a_missing_tuning_split_is_replaced_and_noted():
    split = np.where(SPLIT == "tuning", "train", SPLIT)
    rows = fast({"good": GOOD}, make("binary"), split=split)
    assert all("no tuning split" in row.note for row in rows)


def test_unknown_protocols_and_wrong_lengths_are_refused():
    with pytest.raises(ConfigError, match="linear_probe"):
        fast({"good": GOOD}, make("binary"), protocol="linear_prob")
    with pytest.raises(ValueError, match="rows"):
        fast({"good": GOOD[:10]}, make("binary"))
    with pytest.raises(ValueError, match="columns"):
        fast({"good": GOOD}, make("binary"), predictions={"p": [GOOD[:, 0]]})


def test_the_same_seed_gives_the_same_rows():
    options = {"fractions": (0.2,), "seed": 3}
    first = fast({"good": GOOD}, make_once := make("binary"), **options)
    assert fast({"good": GOOD}, make_once, **options) == first


def test_folds_without_both_classes_are_not_estimable_and_not_an_auroc_of_zero():
    targets = targets_of("binary", [1, 0, 0, 0, 0])
    features = {"a": np.random.default_rng(0).normal(size=(5, 3)), "b": np.eye(5)[:, :3]}
    rows = evaluate_embeddings(
        features, targets, np.array(["train"] * 4 + ["held_out"]), np.arange(5),
        bootstrap_draws=100, cross_validation=replace(EVERYONE, unseen=np.ones(5, bool)),
    )  # fmt: skip
    assert rows
    assert all(row.value is None and "not estimable" in row.note for row in rows)
    lost = [row for row in rows if row.versus]
    assert {row.metric for row in lost} >= {"auroc", "brier"}  # said, not left out
    assert all((row.method, row.versus) == ("b", "a") for row in lost)
    assert all("a fold had too little to fit on" in row.note for row in lost)


def test_a_difference_that_does_not_exist_says_which_method_lacks_what():
    scores = 5 * GOOD[:, :1]
    rows = fast({"good": GOOD}, make("binary"), predictions={"zero-shot": scores})
    lost = {row.metric: row for row in rows if row.versus}
    assert lost["brier"].value is None
    assert "zero-shot is not estimable: the predictions are scores" in lost["brier"].note
    assert (lost["brier"].n, lost["brier"].versus) == (70, "good")
    assert lost["auroc"].value is not None


def test_unknown_splits_are_refused_and_seen_ones_scored_with_a_note():
    with pytest.raises(ConfigError, match=r"no split 'test' to score.*held_out, train, tuning"):
        fast({"good": GOOD}, make("binary"), scored_split="test")
    for split, said in (
        ("train", "the model was fitted on"),
        ("tuning", "settings were chosen on"),
    ):
        rows = fast({"good": GOOD}, make("binary"), scored_split=split)
        assert {row.n for row in rows} == {int((split == SPLIT).sum())}
        assert all(f"scored on {split}: rows that {said}" in r.note for r in rows if not r.versus)
    plain = fast({"good": GOOD}, make("binary"))
    assert not [row for row in plain if "scored on" in row.note]


@pytest.mark.parametrize("kind", ["binary", "survival"])
def test_every_interval_has_the_level_that_was_asked_for(kind):
    """Those of figures and of the rows that come with them, too."""
    found = []
    for level in (0.5, 0.95):
        options = {"bootstrap_draws": 60, "shown": ["good"]}
        found.append(
            evaluate_task({"good": GOOD}, make_of(kind), SPLIT, SUBJECTS, level=level, **options)
        )
    narrow, wide = ({r.metric: r for r in one.results if r.low is not None} for one in found)
    assert narrow.keys() == wide.keys()
    assert any(name.startswith(("ici", "calibration_slope")) for name in wide)
    for name, row in wide.items():
        assert narrow[name].high - narrow[name].low < row.high - row.low, name
    near, far = (one.evidence[0] for one in found)
    widths = [
        [high - low for low, high in zip(one.decision.low, one.decision.high, strict=True)
         if low is not None] for one in (near, far)
    ]  # fmt: skip
    assert sum(widths[0]) < sum(widths[1])
    assert near.calibration.slope.high < far.calibration.slope.high
    if kind == "survival":
        curves = [one.risk_groups[0].curve for one in (near, far)]
        gaps = [np.nanmean(np.array(c.high, float) - np.array(c.low, float)) for c in curves]
        assert gaps[0] < gaps[1]


TIMES = np.stack([RNG.exponential(np.exp(-2 * Z[:, 0])), RNG.random(N) < 0.6], axis=1)
LABELS = ((Z[:, :1] + RNG.normal(size=(N, 1))) > 0.5) + 0.0


def make_of(kind):
    """The same outcome at every call."""
    return targets_of(kind, LABELS if kind == "binary" else TIMES)


def test_a_threshold_that_a_caller_gives_is_not_said_to_be_of_train():
    with pytest.raises(TypeError, match="source"):
        Thresholds({"y": 0.3})
    for kind, name in (("binary", "y"), ("survival", "1_time")):
        task = make_of(kind)
        if kind == "survival":
            name = horizons_of(task, np.flatnonzero(SPLIT == "held_out"),
                               np.flatnonzero(SPLIT == "train")).name(0)  # fmt: skip
        given = Thresholds({name: 0.3}, "best on held_out")
        done = evaluate_task({"x": GOOD}, task, SPLIT, SUBJECTS, thresholds=given,
                             bootstrap_draws=50)  # fmt: skip
        (line,) = [one for one in done.fitted if "thresholds" in one.what]
        assert (line.splits, line.note) == ((), "given by the caller: best on held_out")
        (row,) = [one for one in done.results if one.metric.startswith("net_benefit")]
        assert "given by the caller: best on held_out" in row.note
        assert "in train" not in row.note.split(";")[0]
        lying = Thresholds({name: 0.3}, "train")
        done = evaluate_task({"x": GOOD}, task, SPLIT, SUBJECTS, thresholds=lying,
                             bootstrap_draws=50)  # fmt: skip
        (line,) = [one for one in done.fitted if "thresholds" in one.what]
        assert line.splits == ()
        none = evaluate_task({"x": GOOD}, task, SPLIT, SUBJECTS, thresholds=Thresholds({}, "me"),
                             bootstrap_draws=50)  # fmt: skip
        (row,) = [one for one in none.results if one.metric.startswith("net_benefit")]
        assert "the caller gave none" in row.note
        own = evaluate_task({"x": GOOD}, task, SPLIT, SUBJECTS, bootstrap_draws=50)  # fmt: skip
        (line,) = [one for one in own.fitted if "thresholds" in one.what]
        assert line.splits == ("train",)


def test_p_of_a_difference_counts_subjects_and_not_rows():
    twice = np.concatenate([np.flatnonzero(SPLIT != "held_out"),
                            np.repeat(np.flatnonzero(SPLIT == "held_out"), 2)])  # fmt: skip
    task, rows = make_of("binary").take(twice), SPLIT[twice] == "held_out"
    scores = {"a": GOOD[twice][:, :1], "b": (GOOD + 0.5 * BAD)[twice][:, :1]}
    found = evaluate_embeddings({}, task, SPLIT[twice], SUBJECTS[twice], predictions=scores,
                                bootstrap_draws=50)  # fmt: skip
    (gain,) = [row for row in found if row.versus and row.metric == "auroc"]
    y, a, b = task.values[rows, 0], scores["a"][rows, 0], scores["b"][rows, 0]
    assert gain.p_value == pytest.approx(delong(y, b, a, SUBJECTS[twice][rows]).p)
    assert gain.p_value > 1.2 * delong(y, b, a).p


def test_cross_validation_may_leave_out_whole_sites():
    sites = np.array([f"site {code % 7}" for code in SUBJECTS], dtype=object)
    by_site = replace(EVERYONE, by="site", sites=sites, repeats=1)
    found = fast({"x": GOOD}, make("binary"), cross_validation=by_site)
    assert {row.protocol for row in found} == {"linear_probe, 5 x 1-fold by site, probes refitted"}
    with pytest.raises(ConfigError, match="two sites to score"):
        fast({"x": GOOD}, make("binary"), cross_validation=replace(by_site, sites=np.full(N, "a")))
