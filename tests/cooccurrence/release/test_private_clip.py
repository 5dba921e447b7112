"""A clip bound near the median that is paid for, whatever one patient does."""

import numpy as np
import pytest
from small_counts import edit, tables, vocabularies

from medmcl.cooccurrence.count.tokens import whole
from medmcl.cooccurrence.exchange.folder import load_counts, read_manifest
from medmcl.cooccurrence.release import clipping as module
from medmcl.cooccurrence.release import private as release_module
from medmcl.cooccurrence.release.accounting import add_noise, epsilon_of, rho_for
from medmcl.cooccurrence.release.clipping import PrivateQuantile, noisy_quantile
from medmcl.cooccurrence.release.ledger import Ledger
from medmcl.cooccurrence.release.private import RESOLUTION, release_private
from medmcl.core.errors import ArtefactError


@pytest.fixture
def ledger(tmp_path):
    return Ledger.start(tmp_path / "ledger.json", epsilon=8, delta=1e-6)


def lengths(table):
    return np.ceil(np.sqrt((table**2).sum(axis=1)))


@pytest.mark.parametrize("quantile", [0.5, 0.9])
def test_it_is_near_the_quantile(quantile):
    table = np.random.default_rng(0).poisson(1.0, (3000, 40))
    got = noisy_quantile(whole(table, "codes"), PrivateQuantile(quantile), scale=5)
    assert abs(got - np.quantile(lengths(table), quantile)) <= 1


def test_each_patient_is_in_one_bin(monkeypatch):
    seen = []
    monkeypatch.setattr(module, "add_noise", lambda bins, scale: seen.append(bins) or bins)
    table, _ = tables(n=50, rate=3.0)
    table[0] = 0  # nothing at all
    table[1] = 10**6  # beyond the search
    owners = np.repeat(np.arange(25), 2)
    for patients in (None, owners):
        noisy_quantile(whole(table, "codes"), PrivateQuantile(longest=20), 1.0, patients)
    assert [bins.sum() for bins in seen] == [50, 25]
    expected = np.clip(lengths(np.delete(table, 1, axis=0)), 1, 20)
    np.testing.assert_array_equal(
        seen[0], np.bincount(np.r_[expected, 20].astype(int), minlength=21)[1:]
    )


@pytest.mark.parametrize("wrong", [{"quantile": 1.0}, {"longest": 0}])
def test_what_is_no_quantile_is_refused(wrong):
    with pytest.raises(ArtefactError, match="no such quantile"):
        PrivateQuantile(**wrong)


def release(ledger, x1, x2, clip, **changes):
    words = vocabularies(x1.shape[1], x2.shape[1])
    settings = {"vocabularies": words, "clip": clip, "epsilon": 1.0, "delta": 1e-6, **changes}
    return release_private(x1, x2, ledger=ledger, **settings)


@pytest.mark.parametrize("both", [True, False])
def test_all_noise_of_a_release_with_chosen_bounds_is_within_its_epsilon(ledger, monkeypatch, both):
    """The cost of each draw by the formula, from the scales that were really drawn with."""
    scales = {"bins": [], "cells": []}

    def spy(kind):
        return lambda values, scale: scales[kind].append(scale) or add_noise(values, scale)

    monkeypatch.setattr(module, "add_noise", spy("bins"))
    monkeypatch.setattr(release_module, "add_noise", spy("cells"))
    generator = np.random.default_rng(0)
    x1, x2 = generator.poisson(1.0, (2000, 30)), generator.poisson(0.5, (2000, 20))
    chosen = PrivateQuantile(0.5, 20)
    made = release(ledger, x1, x2, (chosen, chosen if both else 3), clip_share=0.2)
    keys = made.keys
    assert abs(keys.clip["codes"] - np.median(lengths(x1))) <= 1
    assert keys.clip["concepts"] == 3 or both
    assert len(scales["bins"]) == 1 + both
    bins = [1 / (2 * scale**2) for scale in scales["bins"]]
    moved = keys.clip["codes"] * keys.clip["concepts"] * RESOLUTION**2
    cells = (moved / scales["cells"][0]) ** 2 / 2
    whole = rho_for(1.0, 1e-6)
    assert sum(bins) + cells <= whole
    assert sum(bins) + cells > 0.999 * whole  # nothing is wasted
    assert sum(bins) == pytest.approx(0.2 * whole)
    assert (keys.rho, keys.epsilon) == (whole, epsilon_of(whole, 1e-6))
    said = keys.clip_chosen["codes"]
    assert (said.quantile, said.longest) == (0.5, 20)
    assert bins[0] <= said.rho == pytest.approx(bins[0])
    assert said.epsilon == epsilon_of(said.rho, 1e-6)
    assert set(keys.clip_chosen) == ({"codes", "concepts"} if both else {"codes"})
    (entry,) = ledger.read().releases
    assert entry.rho == whole
    assert "clip bound of codes by quantile 0.5" in entry.what


@pytest.mark.parametrize(
    ("change", "message"),
    [({"longest": 1}, "truth about: clip of codes"), ({"rho": 1.0}, "truth about: rho")],
)
def test_what_a_manifest_says_of_chosen_bounds_is_checked(
    ledger, tmp_path, monkeypatch, change, message
):
    monkeypatch.setattr(module, "add_noise", lambda bins, _: bins)  # a bound above 1 for certain
    x1, x2 = tables(n=60)
    folder = release(ledger, x1 + 1, x2, (PrivateQuantile(), 3)).save(tmp_path / "out")
    load_counts(folder)
    assert read_manifest(folder).release.clip_chosen["codes"].longest == 64
    edit(folder, lambda values: values["release"]["clip_chosen"]["codes"].update(change))
    with pytest.raises(ArtefactError, match=message):
        load_counts(folder)


def test_impossible_bounds_and_shares_are_refused_unpaid(ledger):
    x1, x2 = tables()
    for wrong in ({"clip": (0, 3)}, {"clip_share": 0.0}, {"clip_share": 1.0}):
        with pytest.raises(ArtefactError):
            release(ledger, x1, x2, **{"clip": (PrivateQuantile(), 3), **wrong})
    assert ledger.read().releases == ()
