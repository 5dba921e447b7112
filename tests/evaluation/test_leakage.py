"""Attempts to peek at held_out: each is refused, with what would have seen it."""

from dataclasses import replace

import numpy as np
import pytest
from made_targets import targets_of
from scipy.sparse import csr_matrix

from medmcl.core.errors import LeakageError
from medmcl.core.split_guard import SplitGuard
from medmcl.data.loading.simple_features import SimpleTable
from medmcl.evaluation import evaluate_task, knn, linear_probe, majority
from medmcl.evaluation.aspects.tasks.metrics import horizons_of, thresholds_of
from medmcl.evaluation.models.cross_validation import out_of_fold
from medmcl.evaluation.models.survival_models import cox_probe, discrete_time_probe
from medmcl.evaluation.protocol.evidence import FittedOn
from medmcl.evaluation.protocol.folds import CrossValidation
from medmcl.evaluation.protocol.guard import record_codes
from medmcl.evaluation.protocol.predicted import with_baseline
from medmcl.evaluation.report.sections import ledger_shown

N = 600
RNG = np.random.default_rng(0)
SPLIT = np.array(["train"] * 350 + ["tuning"] * 100 + ["held_out"] * 150)
TRAIN, TUNING, HELD = (np.flatnonzero(s == SPLIT) for s in ("train", "tuning", "held_out"))
X = RNG.normal(size=(N, 4))
SUBJECTS = np.arange(N)


def targets(kind="binary", sides=None):
    values = (X[:, :1] + RNG.normal(size=(N, 1)) > 0) + 0.0
    if kind == "survival":
        values = np.stack([RNG.exponential(np.exp(-X[:, 0])), RNG.random(N) < 0.6], axis=1)
    elif kind == "regression":
        values = X[:, :1] + RNG.normal(size=(N, 1))
    return targets_of(kind, values, sides=sides or SplitGuard(splits=SPLIT))


FITS = [
    ("binary", linear_probe), ("regression", linear_probe), ("survival", linear_probe),
    ("survival", cox_probe), ("survival", discrete_time_probe), ("binary", knn),
    ("survival", knn), ("binary", majority), ("survival", majority),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "fit"), FITS)
def test_fitting_and_standardising_on_held_out_rows_is_refused(kind, fit):
    with pytest.raises(LeakageError, match="rows of held_out") as said:
        fit(X, targets(kind), np.append(TRAIN, HELD[:3]), TUNING)
    assert "3 of 353 rows" in str(said.value)
    with pytest.raises(LeakageError):
        fit(X, targets(kind), TRAIN, TUNING, refit_on=np.append(TRAIN, HELD))


@pytest.mark.parametrize(("kind", "fit"), [one for one in FITS if one[1] is not majority])
def test_choosing_a_penalty_on_held_out_rows_is_refused(kind, fit):
    with pytest.raises(LeakageError, match="choice of"):
        fit(X, targets(kind), TRAIN, HELD)


def test_a_baseline_hazard_of_held_out_rows_is_refused():
    with pytest.raises(LeakageError, match="baseline hazard would see rows of held_out"):
        with_baseline(X[:, :1], targets("survival"), np.append(TRAIN, HELD[:1]))


def test_a_record_under_two_names_in_train_and_held_out_is_refused():
    content = np.arange(N)
    content[HELD[0]] = content[TRAIN[5]]
    sides = SplitGuard(splits=SPLIT, contents=(content,))
    with pytest.raises(LeakageError, match="record is also in held_out, under another subject"):
        linear_probe(X, targets(sides=sides), TRAIN, TUNING)
    with pytest.raises(LeakageError, match="1 of 350 rows"):
        evaluate_task({"x": X}, targets(sides=sides), SPLIT, SUBJECTS)


def test_a_split_that_names_held_out_rows_train_is_refused():
    lie = np.where(np.arange(N) < 500, "train", SPLIT)  # 50 held-out rows among them
    with pytest.raises(LeakageError, match="rows of held_out"):
        evaluate_task({"x": X}, targets(), lie, SUBJECTS)


WIDE = RNG.normal(size=(N, 12))


def plain(kind="binary"):
    """A task that knows nothing of sides, as a caller makes it."""
    return replace(targets(kind), sides=None)


@pytest.mark.parametrize("knows", ["nothing", "splits", "people"])
@pytest.mark.parametrize("side", [TRAIN, TUNING])
def test_a_person_on_both_sides_is_refused_by_the_arguments_alone(knows, side):
    people = SUBJECTS.copy()
    people[HELD[0]] = people[side[3]]
    told = {"subjects": people} if knows == "people" else {}
    sides = None if knows == "nothing" else SplitGuard(splits=SPLIT, **told)
    with pytest.raises(LeakageError, match="subjects who are also in held_out"):
        evaluate_task({"x": X}, replace(plain(), sides=sides), SPLIT, people)
    names = np.where(SPLIT == "held_out", "external", SPLIT)  # a scored split of another name
    with pytest.raises(LeakageError, match="subjects who are also in held_out"):
        evaluate_task({"x": X}, plain(), names, people, scored_split="external")  # fmt: skip


@pytest.mark.parametrize("sides", [None, SplitGuard(splits=SPLIT)])
def test_held_out_rows_that_are_copies_of_train_rows_are_refused(sides):
    task = replace(plain(), sides=sides)
    copied = WIDE.copy()
    copied[HELD[:3]] = copied[TRAIN[:3]]
    with pytest.raises(LeakageError, match="record is also in held_out, under another subject"):
        evaluate_task({"x": copied}, task, SPLIT, SUBJECTS)
    with pytest.raises(LeakageError, match="3 of 350 rows"):
        evaluate_task({"y": X, "x": [WIDE, copied]}, task, SPLIT, SUBJECTS)
    evaluate_task({"x": WIDE}, task, SPLIT, SUBJECTS, bootstrap_draws=20)


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("last bits", lambda x: np.nextafter(np.nextafter(x, 9.0), 9.0)),
        ("float32", lambda x: x.astype(np.float32).astype(float)),
        ("gain", lambda x: 1000 * x),
        ("offset", lambda x: x + 3.0),
        ("gain in float32", lambda x: (x.astype(np.float32) * np.float32(0.3)).astype(float)),
    ],
)
def test_near_copies_of_held_out_rows_are_refused(what, change):
    copied = WIDE.copy()
    copied[HELD[:3]] = change(copied[TRAIN[:3]])
    assert not (copied[HELD[:3]] == copied[TRAIN[:3]]).all(), what
    with pytest.raises(LeakageError, match="3 of 350 rows"):
        evaluate_task({"x": copied}, plain(), SPLIT, SUBJECTS)
    codes = record_codes(copied)
    assert (codes[HELD[:3]] == codes[TRAIN[:3]]).all()
    assert len(np.unique(codes)) == N - 3


def test_what_the_fingerprint_does_not_see_is_not_claimed():
    for change in (lambda x: np.round(x, 2), lambda x: -x, lambda x: np.roll(x, 1)):
        copied = WIDE.copy()
        copied[HELD[0]] = change(copied[TRAIN[0]])
        codes = record_codes(copied)
        assert codes[HELD[0]] != codes[TRAIN[0]]


def test_an_encoder_that_tells_people_little_apart_makes_no_copies():
    rng = np.random.default_rng(3)
    alike = WIDE[:1] + 1e-7 * rng.normal(size=(N, 12))
    assert len(np.unique(record_codes(alike))) == N
    again = alike.copy()
    again[5] = again[9]
    codes = record_codes(again)
    assert codes[5] == codes[9]
    assert len(np.unique(codes)) == N - 1


def test_a_task_that_knows_its_records_is_told_of_near_copies_and_goes_on():
    copied = WIDE.copy()
    copied[HELD[:3]] = 1000 * copied[TRAIN[:3]]
    task = targets(sides=SplitGuard(splits=SPLIT, contents=(np.arange(N),)))
    settings = {"bootstrap_draws": 20}
    rows = evaluate_task({"x": copied}, task, SPLIT, SUBJECTS, **settings).results
    assert all("3 rows have features equal or proportional" in r.note for r in rows)
    rows = evaluate_task({"x": WIDE}, task, SPLIT, SUBJECTS, **settings).results
    assert not [r for r in rows if "proportional" in r.note]


@pytest.mark.parametrize(
    ("what", "x"),
    [
        ("few columns", WIDE[:, :7]),
        ("flags and whole numbers", np.round(3 * WIDE)),
        ("one age and flags", np.concatenate([WIDE[:, :1], np.round(WIDE[:, 1:])], axis=1)),
        ("a dead encoder", np.repeat(WIDE[:1], N, axis=0)),
    ],
)
def test_people_who_are_alike_are_not_taken_for_one(what, x):
    x = x.copy()
    x[HELD[:3]] = x[TRAIN[:3]]
    task = plain()
    evaluate_task({"x": x}, task, SPLIT, SUBJECTS, bootstrap_draws=20)


def test_rows_without_the_input_are_no_copies_of_one_another():
    filled = WIDE.copy()
    gone = np.append(TRAIN[:4], HELD[:4])
    filled[gone] = WIDE[0]
    has = ~np.isin(np.arange(N), gone)
    evaluate_task({"x": filled}, plain(), SPLIT, SUBJECTS, present={"x": has},
                  bootstrap_draws=20)  # fmt: skip


def everyone(size, repeats):
    """Folds over all rows, of features that nobody learned from these people."""
    return CrossValidation(folds=5, repeats=repeats, refit="probe", unseen=np.ones(size, bool))


def test_cross_validation_of_plain_targets_leaves_copies_out_of_their_folds():
    people, copied = SUBJECTS.copy(), WIDE.copy()
    people[HELD[0]] = people[TRAIN[0]]
    copied[HELD[1:4]] = copied[TRAIN[1:4]]
    done = evaluate_task({"x": copied}, plain(), SPLIT, people, bootstrap_draws=20,
                         cross_validation=everyone(N, 5))  # fmt: skip
    assert {row.n for row in done.results} == {N}
    assert all("also in the test fold were not fitted on" in row.note for row in done.results)
    kept = next(line for line in done.fitted if "and other cohorts" in line.note)
    assert kept.rows == 350 - 4  # nor is the probe that goes to other cohorts


@pytest.mark.parametrize("kind", ["binary", "survival"])
def test_choosing_a_threshold_on_held_out_rows_is_refused(kind):
    task = targets(kind)
    times = horizons_of(task, HELD, TRAIN) if kind == "survival" else None
    with pytest.raises(LeakageError, match="threshold of net benefit would see rows of held_out"):
        thresholds_of(task, np.append(TRAIN, HELD[0]), times)


@pytest.mark.parametrize("form", ["numbers", "terms"])
def test_features_chosen_and_weighed_on_held_out_rows_are_refused(form):
    values = np.abs(X) if form == "numbers" else csr_matrix(np.abs(X) > 1, dtype=float)
    table = SimpleTable(
        modality="m", names=("a", "b", "c", "d"), values=values, present=np.ones(N, bool),
        train=TRAIN, sides=SplitGuard(splits=SPLIT),
    )  # fmt: skip
    with pytest.raises(LeakageError, match="what m features learn would see rows of held_out"):
        table.learn(np.append(TRAIN, HELD[:1]))
    content = np.arange(N)
    content[HELD[0]] = content[TRAIN[5]]
    copied = replace(table, sides=SplitGuard(splits=SPLIT, contents=(content,)))
    with pytest.raises(LeakageError, match="record is also in held_out"):
        copied.learn(TRAIN)


@pytest.mark.parametrize("form", ["numbers", "terms"])
def test_held_out_records_change_nothing_that_is_chosen_or_weighed(form):
    """Which numbers are kept, which gaps have a flag, which terms are known and what they weigh."""
    values = np.where(RNG.random((N, 6)) < 0.1, np.nan, RNG.normal(size=(N, 6)))
    values[TRAIN, 1] = np.where(np.isnan(values[TRAIN, 0]), np.nan, 0.5)  # one pattern of gaps
    values[TRAIN, 5] = np.nan  # a number that only others have
    other = values.copy()
    other[HELD] = np.where(np.isnan(values[HELD]), 7.0, np.nan)
    found = []
    for one in (values, other):
        counts = csr_matrix(np.nan_to_num(np.abs(one)).round())
        table = SimpleTable(
            modality="m", names=tuple("abcdef"), values=one if form == "numbers" else counts,
            present=np.ones(N, bool), train=TRAIN,
        )  # fmt: skip
        features, names = table.matrix()
        found.append((names, table.learn().about(), features[TRAIN].tolist()))
    assert found[0] == found[1]


def test_folds_hold_out_their_own_rows_and_fit_on_no_copy_of_them():
    content = np.arange(N)
    content[1], content[2] = content[0], content[0]
    sides = SplitGuard(splits=SPLIT, subjects=SUBJECTS, contents=(content,))
    seen = []

    def spy(x, task, train, tuning, refit_on=None):
        task.refuse_leak("spy", train, tuning, refit_on)
        seen.append((set(content[refit_on]), set(content[np.flatnonzero(task.sides.barred == 1)])))
        return linear_probe(x, task, train, tuning, refit_on=refit_on)

    found = out_of_fold(X, targets(sides=sides), SUBJECTS, np.arange(N), protocol=spy, repeats=1)
    assert len(seen) == 5
    assert all(not fitted & tested for fitted, tested in seen)
    assert any("also in the test fold" in note for note in found.notes)


@pytest.mark.parametrize("kind", ["binary", "regression", "survival"])
def test_held_out_outcomes_and_inputs_change_no_prediction_threshold_or_weight(kind):
    task = targets(kind)
    values, other = task.values.copy(), X.copy()
    values[HELD], other[HELD] = values[HELD][::-1], other[HELD] + 5
    cheat = replace(task, values=values)
    before = evaluate_task({"x": X}, task, SPLIT, SUBJECTS, bootstrap_draws=100)
    after = evaluate_task({"x": other}, cheat, SPLIT, SUBJECTS, bootstrap_draws=100)
    rows = X[TRAIN]
    assert np.array_equal(before.models["x"].predict(rows), after.models["x"].predict(rows))
    times = [None, None]
    if kind == "survival":
        times = [horizons_of(one, HELD, TRAIN) for one in (task, cheat)]
        assert np.array_equal(times[0].censoring[1], times[1].censoring[1])
    cuts = [thresholds_of(one, TRAIN, h) for one, h in zip((task, cheat), times, strict=True)]
    assert cuts[0] == cuts[1]
    assert before.thresholds == after.thresholds == cuts[0].risks
    assert bool(cuts[0].risks) == (kind != "regression")


@pytest.mark.parametrize("kind", ["binary", "survival"])
def test_the_ledger_says_what_was_fitted_on_which_split(kind):
    fitted = evaluate_task(
        {"x": X}, targets(kind), SPLIT, SUBJECTS, fractions=(0.1, 1.0), draws=2,
        bootstrap_draws=100,
    ).fitted  # fmt: skip
    probe = [line for line in fitted if "standardisation" in line.what]
    assert [line.splits for line in probe] == [("train",), ("train",)]
    assert 30 < probe[0].rows < 40
    assert probe[1].rows == 350
    chosen = next(line for line in fitted if line.what.startswith("penalty"))
    assert (chosen.splits, chosen.rows, chosen.method) == (("tuning",), 100, "x")
    assert all(line.labels and not line.peeks for line in fitted)
    if kind == "survival":
        assert any("IPCW" in line.what and line.splits == ("train",) for line in fitted)


def test_a_line_that_saw_held_out_says_so():
    assert FittedOn(what="threshold", splits=("train", "held_out")).peeks
    assert not FittedOn(what="threshold", splits=("train",)).peeks


@pytest.mark.parametrize("kind", ["binary", "survival"])
def test_the_ledger_of_folds_neither_accuses_nor_hides(kind):
    small = evaluate_task(
        {"x": X[::4]}, targets(kind).take(np.arange(0, N, 4)), SPLIT[::4], SUBJECTS[::4],
        bootstrap_draws=50, cross_validation=everyone(len(X[::4]), 5),
    )  # fmt: skip
    fitted = small.fitted
    assert not [line for line in fitted if line.peeks]
    fold = next(line for line in fitted if line.use == "out_of_fold")
    assert fold.splits == ("train", "tuning", "held_out")
    assert "test subjects are left out" in fold.note
    metric = next(line for line in fitted if line.use == "score")
    assert "scored" in metric.note  # the rows that set its weights or cut are scored, too
    if kind == "survival":
        assert "held_out" in metric.splits
    (shown,) = ledger_shown(small.fitted)
    cells = [row[1] for row in shown.rows]
    assert "train + tuning + held_out (out of fold)" in cells
    assert not [cell for cell in cells if "peeks" in cell]
    assert "out of fold" in shown.aid
    assert "Nothing here used held_out" not in shown.aid
