from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from medmcl.data.cohort.cohort import open_cohort
from medmcl.simulation.kinds import simulate
from medmcl.simulation.modalities.simulate import (
    ModalitiesSettings,
    draw_latents,
    draw_presence,
    draw_tree,
)


def test_the_cohort_opens_with_who_has_what(tmp_path):
    settings = {"subjects": 60, "modalities": 4, "missing": 0.3, "seed": 5}
    cohort = open_cohort(simulate("modalities", tmp_path / "a", settings))
    assert list(cohort.spec.modalities) == ["m0", "m1", "m2", "m3"]
    has = draw_presence(ModalitiesSettings(**settings))
    for number, name in enumerate(cohort.spec.modalities):
        assert cohort.samples[name].notna().sum() == has[:, number].sum()


@pytest.mark.parametrize("tree", ["random", "chain", "star", ((0, 1), (3, 1), (1, 2), (2, 4))])
def test_latents_correlate_along_the_tree_as_rho_says(tree):
    settings = ModalitiesSettings(subjects=20_000, modalities=5, rho=0.8, tree=tree, seed=2)
    edges = draw_tree(settings)
    assert len(edges) == 4
    z = draw_latents(settings, edges)
    np.testing.assert_allclose(z.std(0), 1.0, atol=0.03)

    def shared(a, b):  # mean squared canonical correlation: rho ** (2 * edges between)
        both = np.linalg.qr(z[:, a])[0].T @ np.linalg.qr(z[:, b])[0]
        return (both**2).sum() / settings.latent

    near = {frozenset(edge): 1 for edge in edges}
    for a in range(5):
        for b in range(a):
            if frozenset((a, b)) in near:
                assert shared(a, b) == pytest.approx(0.8**2, abs=0.02)
            else:
                assert shared(a, b) < 0.8**3.5


def test_noise_shares_nothing_and_everybody_keeps_something(tmp_path):
    settings = {"subjects": 4000, "modalities": 3, "noise_modalities": 1, "missing": 0.9}
    folder = simulate("modalities", tmp_path / "c", settings)
    truth = json.loads((folder / "truth.json").read_text())
    assert len(truth["edges"]) == 1
    (noise,) = truth["noise"]
    latents = pd.read_parquet(folder / "truth.parquet")
    others = [c for c in latents if c.startswith("m") and not c.startswith(noise)]
    mine = [c for c in latents if c.startswith(noise)]
    assert np.abs(latents[others + mine].corr().loc[mine, others].to_numpy()).max() < 0.08
    assert draw_presence(ModalitiesSettings(**settings)).any(axis=1).all()
    people = pd.read_csv(folder / "participants.tsv", sep="\t")
    assert np.allclose(people.trait, latents[f"{truth['root']}_z0"], atol=1e-4)
