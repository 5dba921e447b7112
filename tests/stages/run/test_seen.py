"""Who of another cohort is known by records that are no measurements: rows of tables, texts."""

import hashlib
from types import SimpleNamespace

import numpy as np

from medmcl.stages.run import seen
from medmcl.stages.run.seen import _same_people, known_again
from medmcl.stages.run.train_records import _numbers, samples_with


def digests(values):
    return np.array([hashlib.sha256(str(one).encode()).hexdigest() for one in values], dtype="S")


def cohort(values):
    """People with one record each."""
    count = len(values)
    return SimpleNamespace(
        stored={"note": SimpleNamespace(digests=digests(values))},
        index=lambda _: np.arange(count),
        identity=lambda _: np.unique(values, return_inverse=True)[1],
        subjects=np.arange(count),
        splits=np.full(count, "held_out"),
    )


def known(trained, here):
    """Who is taken for one of the people in training, (N,) bool."""
    kept = np.sort(_numbers(np.array(digests(trained))))
    prepared = cohort(np.asarray(here))
    return _same_people(kept, prepared, "note", samples_with(kept, prepared, "note"))


COMMON = ["normal"] * 100
OWN = [f"report {number}" for number in range(900)]


def test_the_same_people_are_known_also_where_some_share_a_text():
    assert known(COMMON + OWN, ["normal"] * 30 + OWN[:270]).all()


def test_strangers_with_a_common_text_are_strangers():
    others = [f"other {number}" for number in range(270)]
    assert not known(COMMON + OWN, ["normal"] * 30 + others).any()


def test_of_few_known_people_among_strangers_only_they_are_known():
    others = [f"other {number}" for number in range(250)]
    found = known(COMMON + OWN, ["normal"] * 30 + others + OWN[:20])
    assert np.flatnonzero(found).tolist() == [*range(280, 300)]


def test_strangers_with_rows_of_a_narrow_table_are_strangers():
    """Age and sex, perhaps a column of ten levels: 80 or 800 rows are possible, all as likely.

    A few are taken for known, which costs their score and tells nothing of anybody.
    """
    shares = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        for possible, trained, here in ((80, 500, 200), (800, 500, 200), (800, 100, 400)):
            rows = rng.integers(0, possible, trained + here)
            shares.append(known(rows[:trained], rows[trained:]).mean())
    assert np.mean(shares) < 0.005
    assert max(shares) < 0.05


def test_in_the_cohort_of_the_run_equal_rows_tell_nobody_for_ids_do(monkeypatch):
    here = [f"report {number}" for number in range(20)] + [f"other {n}" for n in range(80)]
    kept = {"note": np.sort(_numbers(np.array(digests(OWN))))}
    monkeypatch.setattr(seen, "kept_hashes", lambda run: kept)
    prepared = cohort(np.asarray(here))
    prepared.adapters = {"note": SimpleNamespace(measured=False)}
    for fingerprint, count in (("home", 0), ("elsewhere", 20)):
        prepared.cohort = SimpleNamespace(fingerprint=fingerprint)
        run = SimpleNamespace(config={"cohort_fingerprint": "home"})
        assert [one.sum() for one in known_again(run, prepared)] == [count, 0]
    prepared.adapters["note"].measured = True
    prepared.cohort = SimpleNamespace(fingerprint="home")
    assert known_again(run, prepared)[0].sum() == 20
