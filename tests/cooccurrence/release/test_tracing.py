"""One patient can be traced in exact cells, not much less behind a threshold, not behind noise."""

import numpy as np
import pytest
from small_counts import vocabularies

from benchmarks.ehr.record_tracing import largest_advantage, trace_scores, traced
from medmcl.cooccurrence import count_tokens
from medmcl.cooccurrence.release.ledger import Ledger
from medmcl.cooccurrence.release.private import release_private
from medmcl.cooccurrence.release.release import release_threshold

N, D1, D2 = 150, 50, 50


def people(generator, n):
    return tuple(generator.poisson(0.5, (n, d)) for d in (D1, D2))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    generator = np.random.default_rng(0)
    members, others = people(generator, N), people(generator, N)
    like_them = people(generator, 20_000)
    expected = (like_them[0].T @ like_them[1]) * (N / 20_000)
    counts = count_tokens(*members, vocabularies=vocabularies(D1, D2))
    ledger = Ledger.start(tmp_path_factory.mktemp("l") / "l.json", epsilon=2, delta=1e-6)
    noisy = release_private(
        *members, vocabularies=counts.vocabularies, clip=(3, 3), epsilon=1, delta=1e-6,
        ledger=ledger,
    )  # fmt: skip
    kept = release_threshold(counts, public_vocabulary=True).counts.D.toarray().astype(float)
    cells = {
        "exact": counts.D.toarray().astype(float),
        "threshold": np.where(kept > 0, kept, np.nan),
        "private": noisy.counts.D.toarray().astype(float),
    }

    def attack(one):
        return traced(*(trace_scores(one, expected, *x) for x in (members, others)))

    return {name: attack(one) for name, one in cells.items()}


def test_exact_cells_give_members_away(world):
    assert world["exact"].auc > 0.9


def test_a_threshold_does_not_hide_members(world):
    assert world["threshold"].auc > 0.9


def test_noise_hides_members(world):
    assert abs(world["private"].auc - 0.5) < 0.16  # 4.8 standard errors of 150 against 150
    assert world["private"].advantage < largest_advantage(1, 1e-6)


def test_two_releases_subtracted_read_a_record_off_unless_they_are_noisy(tmp_path):
    """What the manifest of a threshold release warns of."""
    members = people(np.random.default_rng(2), N)
    words = vocabularies(D1, D2)
    record = np.outer(members[0][0], members[1][0])
    both = (members, tuple(x[1:] for x in members))  # with the first patient, and without
    kept = [
        release_threshold(count_tokens(*x, vocabularies=words), public_vocabulary=True).counts.D
        for x in both
    ]
    seen = (kept[0].toarray() > 0) & (kept[1].toarray() > 0)
    assert seen.mean() > 0.9
    np.testing.assert_array_equal((kept[0] - kept[1]).toarray()[seen], record[seen])
    ledger = Ledger.start(tmp_path / "l.json", epsilon=2, delta=1e-6)
    noisy = [
        release_private(*x, vocabularies=words, clip=(4, 4), epsilon=1, delta=1e-6,
                        ledger=ledger).counts.D.toarray() for x in both
    ]  # fmt: skip
    lean = np.corrcoef((noisy[0] - noisy[1]).ravel(), record.ravel())[0, 1]
    assert abs(lean) < 0.1  # 5 standard errors of 2,500 cells


def test_scores_are_the_sum_over_pairs_of_the_record():
    generator = np.random.default_rng(1)
    cells, expected = generator.uniform(1, 9, (2, 4, 3))
    expected[0, 0], cells[1, 2] = 0, np.nan
    x1, x2 = generator.poisson(1, (5, 4)), generator.poisson(1, (5, 3))
    known = np.isfinite(cells) & (expected > 0)
    fitted = np.where(known, expected, 0)
    for _ in range(20):
        fitted = fitted / fitted.sum(1, keepdims=True) * np.where(known, cells, 0).sum(1)[:, None]
        fitted = fitted / fitted.sum(0) * np.where(known, cells, 0).sum(0)
    for k, score in enumerate(trace_scores(cells, expected, x1, x2)):
        want = 0.0
        for i in range(4):
            for j in range(3):
                if (i, j) not in ((0, 0), (1, 2)):
                    lean = (cells[i, j] - fitted[i, j]) / fitted[i, j]
                    want += x1[k, i] * x2[k, j] * lean
        assert score == pytest.approx(want)


def test_advantage_of_perfect_and_of_blind_guessing():
    assert traced(np.arange(5) + 10.0, np.arange(5.0)).advantage == 1
    assert traced(np.ones(5), np.ones(5)).auc == 0.5
    assert largest_advantage(0, 0) == 0
    assert largest_advantage(1, 0) == pytest.approx(np.tanh(0.5))
