"""A clip bound near the median that is paid for, whatever one patient does."""

import numpy as np
import pytest
from small_counts import tables

from medmcl.cooccurrence import private_clip as module
from medmcl.cooccurrence.ledger import Ledger
from medmcl.cooccurrence.private_clip import private_clip
from medmcl.core.errors import ArtefactError


@pytest.fixture
def ledger(tmp_path):
    return Ledger.start(tmp_path / "ledger.json", epsilon=8, delta=1e-6)


def lengths(table):
    return np.ceil(np.sqrt((table**2).sum(axis=1)))


@pytest.mark.parametrize("quantile", [0.5, 0.9])
def test_it_is_near_the_quantile_and_charged(ledger, quantile):
    table = np.random.default_rng(0).poisson(1.0, (3000, 40))
    got = private_clip(table, epsilon=0.5, delta=1e-6, ledger=ledger, quantile=quantile)
    assert abs(got - np.quantile(lengths(table), quantile)) <= 1
    assert [e.what for e in ledger.read().releases] == [f"clip bound, quantile {quantile:g}"]


def test_each_patient_is_in_one_bin(ledger, monkeypatch):
    seen = []
    monkeypatch.setattr(module, "add_noise", lambda bins, scale: seen.append(bins) or bins)
    table, _ = tables(n=50, rate=3.0)
    table[0] = 0  # nothing at all
    table[1] = 10**6  # beyond the search
    owners = np.repeat(np.arange(25), 2)
    private_clip(table, epsilon=1, delta=1e-6, ledger=ledger, longest=20)
    private_clip(table, epsilon=1, delta=1e-6, ledger=ledger, longest=20, patients=owners)
    assert [bins.sum() for bins in seen] == [50, 25]
    expected = np.clip(lengths(np.delete(table, 1, axis=0)), 1, 20)
    np.testing.assert_array_equal(
        seen[0], np.bincount(np.r_[expected, 20].astype(int), minlength=21)[1:]
    )


def test_what_is_no_quantile_is_refused_unpaid(ledger):
    table, _ = tables()
    for wrong in ({"quantile": 1.0}, {"longest": 0}, {"epsilon": -1}):
        with pytest.raises(ArtefactError):
            private_clip(table, **{"epsilon": 1, "delta": 1e-6, "ledger": ledger, **wrong})
    assert ledger.read().releases == ()
