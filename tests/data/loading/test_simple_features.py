"""Simple features by sample: finite, kept, learned on train rows alone, and applied to others."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from medmcl.core.contracts import SimpleFeatures
from medmcl.core.errors import ArtefactError
from medmcl.data.cohort.cohort import open_cohort
from medmcl.data.loading import simple_features as module
from medmcl.data.loading import simple_reading as term_weights
from medmcl.data.loading import worker_pool as processes
from medmcl.data.loading.simple_features import SimpleTable, simple_table
from medmcl.data.loading.simple_reading import SimpleReading, TermWeights
from medmcl.data.loading.worker_pool import worker_pool
from medmcl.modalities import ADAPTERS


def features(prepared, name):
    table = simple_table(prepared, name)
    return *table.matrix(), table.present


@pytest.fixture
def prepared(tiny, inputs):
    return tiny.prepared(inputs, splits="all")


def test_every_modality_of_a_cohort_has_finite_features(prepared):
    for name, adapter in prepared.adapters.items():
        assert isinstance(adapter, SimpleFeatures)
        values, names, present = features(prepared, name)
        assert values.shape == (len(prepared.samples), len(names))
        assert len(set(names)) == len(names)
        assert np.isfinite(values).all()
        assert (present == prepared.present[name]).all()


def test_every_kind_of_adapter_keeps_the_hook():
    for kind in ADAPTERS.values():
        assert issubclass(kind, SimpleFeatures)


def test_a_kind_without_the_hook_has_no_simple_baseline(prepared):
    class Bare:
        kind = "bare"

    prepared.adapters["ecg"] = Bare()
    assert simple_table(prepared, "ecg") is None


def test_a_newcomer_needs_one_method(prepared):
    class Codes:
        kind = "codes"
        measured = False

        def read(self, place):
            return ["I21", "I50", "I50"] if int(place.record[1:]) % 2 else ["Z00"]

        def simple_features(self, raw):
            return raw

    prepared.adapters["ecg"] = Codes()
    values, names, present = features(prepared, "ecg")
    assert set(names) == {"I21", "I50", "Z00"}
    odd = np.array([int(s[1:]) % 2 == 1 for s in prepared.samples["subject"]])
    assert (values[:, names.index("I50")] > values[:, names.index("I21")])[odd].all()
    assert np.allclose(values[~odd, names.index("Z00")], 1)
    assert present.all()


def test_tables_are_the_covariates_that_an_encoder_sees(tiny, inputs):
    tiny.table["age"] = tiny.table["age"].astype(float)
    tiny.table.loc[1, "age"] = np.nan
    tiny.table.loc[9, "sex"] = "X"
    prepared = tiny.prepared(inputs, splits="all")
    name = next(n for n, a in prepared.adapters.items() if a.kind == "tabular")
    table = simple_table(prepared, name)
    assert table.untold == {"age": 1}
    assert "age 1" in table.note()
    values, names = table.matrix()
    column = dict(zip(names, values.T, strict=True))
    rows = np.asarray(prepared.inputs(name))[prepared.index(name)]
    numbers = prepared.adapters[name].input_shape.names.index("age")
    known = rows[:, 1, numbers] > 0
    assert np.allclose(column["age"][known], rows[known, 0, numbers], atol=1e-6)
    train = prepared.rows("train")
    assert column["age"][1] == pytest.approx(column["age"][train[known[train]]].mean())
    assert column["no age"].tolist() == [float(n == 1) for n in range(len(values))]
    assert column["sex=unseen"].tolist() == [float(n == 9) for n in range(len(values))]
    assert (column["sex=F"] + column["sex=M"] + column["sex=unseen"] == 1).all()


def test_numbers_are_measured_once_and_kept(prepared, tiny, monkeypatch):
    cache = tiny.folder / "cache"
    first = simple_table(prepared, "ecg", cache=cache)
    monkeypatch.setattr(module, "_measured", lambda *_: pytest.fail("measured again"))
    again = simple_table(prepared, "ecg", cache=cache)
    assert again.names == first.names
    assert np.array_equal(again.values, first.values, equal_nan=True)
    assert not list(cache.glob("*.part"))


def test_what_is_kept_is_made_anew_when_damaged_or_when_a_file_changed(prepared, tiny):
    cache = tiny.folder / "cache"
    first = simple_table(prepared, "ecg", cache=cache)
    (kept,) = cache.glob("simple-*.npz")
    kept.write_bytes(kept.read_bytes()[:100])
    assert np.array_equal(
        simple_table(prepared, "ecg", cache=cache).values, first.values, equal_nan=True
    )
    with np.load(kept) as there:
        other = dict(there)
    np.savez(kept, **{**other, "values": other["values"] + 1, "of": "simple-0.npz"})
    assert np.array_equal(
        simple_table(prepared, "ecg", cache=cache).values, first.values, equal_nan=True
    )
    path = next(iter(prepared.cohort.records["ecg"]["place"])).paths["path"]
    data = path.with_name(path.name + ".dat")
    data.write_bytes(data.read_bytes()[24:] + data.read_bytes()[:24])
    assert not np.array_equal(
        simple_table(prepared, "ecg", cache=cache).values[0], first.values[0], equal_nan=True
    )


def test_lent_processes_measure_the_same(prepared, monkeypatch):
    one = simple_table(prepared, "ecg")
    monkeypatch.setattr(processes, "_TRIED", 1)
    monkeypatch.setattr(processes, "_WORTH_SECONDS", 0.0)
    with worker_pool(2):
        two = simple_table(prepared, "ecg")
    assert np.array_equal(one.values, two.values, equal_nan=True)


def test_rows_of_splits_that_are_shut_are_absent(tiny, inputs):
    shut = tiny.prepared(inputs)
    held = shut.splits == "held_out"
    for name in shut.adapters:
        table = simple_table(shut, name)
        assert not table.present[held].any()
        values = table.values if isinstance(table.values, np.ndarray) else table.values.toarray()
        assert not np.nan_to_num(values[held]).any()


def test_nothing_is_learned_from_other_rows(prepared):
    """Whatever stands in tuning and held_out, the features of train rows stay as they are."""
    generator = np.random.default_rng(0)
    train = prepared.rows("train")
    others = np.setdiff1d(np.arange(len(prepared.samples)), train)
    for name in prepared.adapters:
        table = simple_table(prepared, name)
        plain, names = table.matrix()
        if table.has_terms:
            bent = table.values.toarray()
            bent[others] = generator.integers(0, 9, bent[others].shape)
            from scipy.sparse import csr_matrix

            bent = csr_matrix(bent)
        else:
            bent = table.values.copy()
            bent[others] = generator.standard_normal(bent[others].shape) * 1e3
        moved, same = SimpleTable(**{**vars(table), "values": bent}).matrix()
        assert same == names
        assert np.allclose(moved[table.train], plain[table.train])


def test_gaps_get_the_train_mean_and_one_flag_a_pattern():
    nan = np.nan
    table = SimpleTable(
        modality="m",
        names=("a", "b", "c", "never"),
        values=np.array([[1.0, nan, nan, nan], [3, 5, 7, nan], [nan, 1, 9, 2], [nan, nan, nan, 4]]),
        present=np.array([True, True, True, False]),
        train=np.array([0, 1]),
    )
    values, names = table.matrix()
    assert names == ("a", "b", "c", "no b")
    assert values.tolist() == [[1, 5, 7, 1], [3, 5, 7, 0], [2, 1, 9, 0], [2, 5, 7, 0]]
    assert table.untold == {"a": 1, "b": 1, "c": 1, "never": 2}
    assert "4 of 4 numbers" in table.note()
    assert table.matrix(np.array([2]))[1] == ("b", "c", "never")


def test_no_train_row_is_refused():
    table = SimpleTable(
        modality="m",
        names=("a",),
        values=np.ones((2, 1)),
        present=np.array([False, True]),
        train=np.zeros(0, np.int64),
    )
    with pytest.raises(ArtefactError, match="no train sample has 'm'"):
        table.matrix()
    with pytest.raises(ArtefactError, match="no train sample has 'm'"):
        table.matrix(np.array([0]))


ROOT = os.environ.get("MEDMCL_DATA")


@pytest.mark.skipif(ROOT is None, reason="MEDMCL_DATA is not set")
def test_real_ecgs_tell_the_superclasses_better_than_the_spectrum_alone():
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    root = Path(ROOT or "") / "ptbxl"
    if not root.is_dir():
        pytest.skip("no PTB-XL")
    cohort = open_cohort("ptbxl", {"data_root": str(root)})
    places = cohort.records["ecg"]["place"].reindex(cohort.samples["ecg"])
    targets = cohort.targets("superclass")
    split = cohort.samples["split"].to_numpy(object)
    known = targets.complete & places.notna().to_numpy()
    train, held = (np.flatnonzero(known & (split == s)) for s in ("train", "held_out"))
    train, rows = train[::16], np.concatenate([train[::16], held[::4]])
    adapter = ADAPTERS["ecg"](
        cohort.spec.modalities["ecg"].source, ADAPTERS["ecg"].Settings(rate_hz=100)
    )
    raws = [adapter.read(places.iloc[row]) for row in rows]
    measured = np.array([[*adapter.simple_features(raw).values()] for raw in raws])
    measured = np.where(np.isfinite(measured), measured, np.nanmean(measured[: len(train)], axis=0))
    spectra = np.array([_spectrum(adapter.prepare(raw)) for raw in raws])

    def score(x):
        found = []
        for y in targets.values[rows].T > 0:
            model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500))
            model.fit(x[: len(train)], y[: len(train)])
            chance = model.predict_proba(x[len(train) :])[:, 1]
            found.append(roc_auc_score(y[len(train) :], chance))
        return np.mean(found)

    assert score(measured) > max(0.78, score(spectra) + 0.02)


def _spectrum(signal):
    """Log power of each lead in 40 bands up to 40 Hz, as `ptbxl_study` of benchmarks/ takes it."""
    power = np.abs(np.fft.rfft(signal * np.hanning(signal.shape[1]), axis=1)) ** 2
    count = power.shape[1] // 50 * 40
    return np.log(power[:, :count] + 1e-6).reshape(len(signal), 40, -1).mean(axis=2).ravel()


def term_matrix(found, names, train):
    learned = TermWeights.learn(found, names, train)
    return learned.apply(found, names), learned.columns


def counts(rows=60, terms=40, seed=0):
    generator = np.random.default_rng(seed)
    return generator.poisson(np.geomspace(2, 0.02, terms), (rows, terms)).astype(float)


def test_weights_equal_those_of_scikit_learn():
    from sklearn.feature_extraction.text import TfidfTransformer

    found = counts()
    train = np.arange(40)
    values, names = term_matrix(csr_matrix(found), tuple(map(str, range(40))), train)
    kept = [int(name) for name in names]
    assert kept == np.flatnonzero((found[train] > 0).sum(axis=0) >= 2).tolist()
    theirs = TfidfTransformer(sublinear_tf=True).fit(found[train][:, kept])
    assert np.allclose(values, theirs.transform(found[:, kept]).toarray())


def test_many_terms_become_directions_that_keep_the_angles(monkeypatch):
    generator = np.random.default_rng(1)
    topics = generator.random((3, 400)) ** 6
    found = generator.poisson(8 * generator.dirichlet([0.3] * 3, 80) @ topics).astype(float)
    names = tuple(map(str, range(400)))
    train = np.arange(60)
    whole = term_matrix(csr_matrix(found[:, :250]), names[:250], train)[0]
    monkeypatch.setattr(term_weights, "DIMENSIONS", 59)
    few, directions = term_matrix(csr_matrix(found[:, :250]), names[:250], train)
    assert len(directions) == 59
    angles, kept = whole[:60] @ whole[:60].T, few[:60] @ few[:60].T
    assert np.abs(angles - kept).max() < 0.05
    assert np.array_equal(few, term_matrix(csr_matrix(found[:, :250]), names[:250], train)[0])


def test_nobody_lies_far_out_in_a_direction_that_no_train_row_has(monkeypatch):
    generator = np.random.default_rng(0)
    texts = generator.poisson(0.4, (20, 150)).astype(float)  # of 120 train rows 20 differ
    found = np.vstack([texts[np.arange(120) % 20], generator.poisson(0.4, (40, 150))])
    monkeypatch.setattr(term_weights, "DIMENSIONS", 60)
    train, names = np.arange(120), tuple(map(str, range(150)))
    values, directions = term_matrix(csr_matrix(found), names, train)
    assert len(directions) == 20
    spread = values[train].std(axis=0)
    assert np.abs((values - values[train].mean(axis=0)) / spread).max() < 10


def test_rows_without_a_known_term_are_zero_and_rare_terms_are_left_out():
    found = np.array([[1.0, 0, 1], [2, 0, 0], [0, 5, 0]])
    values, names = term_matrix(csr_matrix(found), ("a", "b", "c"), np.array([0, 1]))
    assert names == ("a",)
    assert values.tolist() == [[1], [1], [0]]
    nothing, names = term_matrix(csr_matrix(np.eye(3)), ("a", "b", "c"), np.arange(3))
    assert nothing.tolist() == [[0], [0], [0]]
    assert names == ("no common term",)


def table(values, names, train=()):
    return SimpleTable(
        modality="m", names=names, values=values, present=np.ones(values.shape[0], bool),
        train=np.array(train, dtype=int),
    )  # fmt: skip


def kept(reading):
    about = json.loads(json.dumps(reading.about()))
    return SimpleReading.of(about, reading.arrays())


def test_numbers_are_filled_with_the_means_of_who_was_learned_from():
    nan = np.nan
    here = table(np.array([[1.0, 2, nan], [3, nan, nan], [9, 9, 9]]), ("a", "b", "c"), [0, 1])
    reading = kept(here.learn())
    there = table(np.array([[nan, 5.0, 7], [0, nan, 7]]), ("b", "a", "new"))  # other order
    values, names = there.matrix(reading=reading)
    assert names == ("a", "b", "no b")
    assert values.tolist() == [[5, 2, 1], [2, 0, 0]]  # the second lacks a, whose gap has no flag
    own = here.matrix()
    assert np.array_equal(here.matrix(reading=reading)[0], own[0])
    with pytest.raises(ArtefactError, match="without b"):
        table(np.zeros((1, 1)), ("a",)).matrix(reading=reading)
    with pytest.raises(ArtefactError, match="another kind"):
        table(csr_matrix(np.eye(2)), ("a", "b")).matrix(reading=reading)


@pytest.mark.parametrize("dimensions", [3, 100])
def test_terms_weigh_what_they_weighed_there_and_new_ones_nothing(monkeypatch, dimensions):
    monkeypatch.setattr(term_weights, "DIMENSIONS", dimensions)
    counts = np.random.default_rng(0).poisson(0.6, (40, 12)).astype(float)
    names = tuple(f"t{k}" for k in range(12))
    here = table(csr_matrix(counts), names, range(30))
    reading = kept(here.learn())
    order = np.random.default_rng(1).permutation(12)
    more = np.column_stack([counts[:, order], np.ones(40)])
    there = table(csr_matrix(more), (*(names[k] for k in order), "unheard"))
    assert np.allclose(there.matrix(reading=reading)[0], here.matrix()[0], atol=1e-12)
    twice = table(csr_matrix(np.vstack([counts, counts[30:]])), names, range(30))
    assert np.allclose(twice.matrix()[0][:40], here.matrix()[0], atol=1e-12)


def test_what_was_kept_must_fit_together():
    reading = table(np.eye(2), ("a", "b"), [0, 1]).learn()
    with pytest.raises(ValueError, match="do not fit"):
        SimpleReading.of({**reading.about(), "names": ["a"]}, reading.arrays())
