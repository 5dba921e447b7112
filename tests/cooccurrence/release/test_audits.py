"""The audits of benchmarks/privacy in short: they find what is broken, and nothing that ships."""

import numpy as np
import pytest

from benchmarks.privacy import derivable, empirical_epsilon
from medmcl.cooccurrence.release.accounting import epsilon_of, rho_for


def test_linear_programming_finds_no_suppressed_cell_but_where_margins_were_counted():
    shipped, wards, events, alone, wards_alone, events_alone, counted = derivable.tried(
        3, [*derivable.WAYS][:7]
    )
    assert shipped["suppressed"] > 5
    assert shipped["suppressed_found"] == shipped["site_cells_found"] == 0
    assert wards["suppressed_found"] == wards["site_cells_found"] == 0
    assert events["suppressed_found"] == events["site_cells_found"] == 0
    assert wards_alone["site_cells_found"] > 0
    assert events_alone["site_cells_found"] > 0
    assert counted["suppressed_found"] > 0
    assert alone["released"] >= shipped["released"]


def test_linear_programming_finds_a_site_that_two_sums_leave():
    sites = [derivable.counted([derivable.ward(np.random.default_rng(k))], [k]) for k in range(3)]
    cells = [site.D.toarray() for site in sites]
    sums = [((0, 1, 2), sum(cells)), ((0, 1), cells[0] + cells[1])]
    found = [(who, one, one.sum(axis=1), one.sum(axis=0)) for who, one in sums]
    row = derivable.look(np.array(cells), found)
    assert row["site_cells_found"] >= np.count_nonzero(cells[2])
    assert derivable.look(np.array(cells), found[:1])["site_cells_found"] == 0


@pytest.mark.parametrize("claimed", [1, 4])
def test_an_attack_finds_less_than_the_claim_and_more_where_noise_is_missing(claimed):
    """Normal noise of the size that the claim asks for, and of a fifth of it."""
    generator = np.random.default_rng(0)
    scale = 1 / np.sqrt(2 * rho_for(claimed, empirical_epsilon.DELTA))
    assert epsilon_of(1 / (2 * scale**2), empirical_epsilon.DELTA) <= claimed * 1.001

    def seen(shift, sd):
        return np.c_[generator.normal(shift, sd, 6000), generator.normal(0, sd, 6000)]

    lower, true, false = empirical_epsilon.attack(seen(0, scale), seen(1, scale))
    assert true > false
    assert lower < claimed
    assert empirical_epsilon.attack(seen(0, scale / 5), seen(1, scale / 5))[0] > claimed


@pytest.mark.parametrize("one", empirical_epsilon.MECHANISMS, ids=lambda one: one.name)
def test_every_mechanism_shows_what_is_attacked(one):
    pytest.importorskip("opendp", reason="the extra [dp] is not installed")
    with one.broken():
        shown = [one.release(x, one.epsilon) for x in empirical_epsilon.neighbours()]
    assert len(shown[0]) == len(shown[1]) >= 4
