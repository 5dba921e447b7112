"""Noise in shares: its cost by the theorem, its size in the sum, who is refused before paying."""

import json
import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from small_counts import tables, vocabularies

from medmcl.cooccurrence.count.tokens import whole
from medmcl.cooccurrence.exchange.folder import load_counts, read_manifest
from medmcl.cooccurrence.exchange.secure import Round, SiteKeys, pair_seed
from medmcl.cooccurrence.exchange.secure_files import load_round, save_round
from medmcl.cooccurrence.release import private_sum as module
from medmcl.cooccurrence.release.accounting import (
    epsilon_of,
    inflation,
    rho_for,
    rho_of_shares,
    scale_of_shares,
)
from medmcl.cooccurrence.release.clipping import clip_rows
from medmcl.cooccurrence.release.ledger import Ledger
from medmcl.cooccurrence.release.private import RESOLUTION
from medmcl.cooccurrence.release.private_sum import (
    load_private_round,
    make_plan,
    save_private_round,
    share_privately,
    sum_privately,
)
from medmcl.core.errors import ArtefactError

SITES = ("A", "B", "C", "D")
DELTA = 1e-6


@pytest.mark.parametrize("scale", [0.5, 0.8, 1.5])
@pytest.mark.parametrize("shares", [1, 2, 5])
@pytest.mark.parametrize("moved", [1, 3])
def test_the_exact_divergence_of_a_sum_of_shares_is_within_its_cost(scale, shares, moved):
    """The sum's distribution by convolution; zero-concentrated: D_alpha <= alpha rho for all."""
    half = (
        int(3 * moved + 8 * scale * math.sqrt(shares)) + 1
    )  # where orders up to 3 have their mass
    support = np.arange(-half - moved, half + moved + 1)
    one = np.exp(-(support**2) / (2 * scale**2))
    one /= one.sum()
    sums = np.ones(1)
    for _ in range(shares):
        sums = np.convolve(sums, one)
    centre = len(sums) // 2
    p = np.log(sums[centre - half : centre + half + 1])
    q = np.log(sums[centre - half - moved : centre + half + 1 - moved])
    rho = rho_of_shares(moved, scale, shares, 1)
    for alpha in (1.5, 2.0, 3.0):
        divergence = np.logaddexp.reduce(alpha * p + (1 - alpha) * q) / (alpha - 1)
        assert divergence <= alpha * rho
    if scale == 1.5:  # and the bound is no more than it must be
        assert divergence > 0.98 * alpha * rho


def test_the_cost_is_the_papers_formula():
    tau = 10 * sum(math.exp(-2 * math.pi**2 * 0.6**2 * k / (k + 1)) for k in (1, 2, 3))
    assert inflation(0.6, 4) == pytest.approx(tau)
    whole = (3 / (2 * 0.6) + tau * math.sqrt(50)) ** 2 / 2
    assert rho_of_shares(3, 0.6, 4, 50) == pytest.approx(whole)
    assert rho_of_shares(300, 60, 4, 10**6) == pytest.approx((300 / (2 * 60)) ** 2 / 2)
    scale = scale_of_shares(300, 0.02, 4, 10**6)
    assert rho_of_shares(300, scale, 4, 10**6) <= 0.02 < rho_of_shares(300, 0.99999 * scale, 4, 100)
    with pytest.raises(ArtefactError, match="no known cost"):
        rho_of_shares(1, 0.4, 3, 1)


def everybody(sites=SITES):
    seeds = {frozenset((a, b)): pair_seed() for a in sites for b in sites if a < b}
    return {a: SiteKeys(a, {b: seeds[frozenset((a, b))] for b in sites if b != a}) for a in sites}


@pytest.fixture
def ledgers(tmp_path):
    started = {s: Ledger.start(tmp_path / f"{s}.json", epsilon=1.2, delta=DELTA) for s in SITES}
    return {s: replace(one, other_people=True) for s, one in started.items()}  # row numbers each


@cache
def planned(honest=None, d=(6, 5)):
    settings = {"epsilon": 1.0, "delta": DELTA, "sites": len(SITES), "honest": honest}
    plan = make_plan(vocabularies(*d), {"codes": 3, "concepts": 2}, **settings)
    return plan, Round("ab" * 16, SITES, plan.digest)


def shared(site, plan, turn, keys, ledgers, data):
    return share_privately(
        *data, plan=plan, turn=turn, keys=keys[site], ledger=ledgers[site],
        patients=np.arange(len(data[0])),
    )  # fmt: skip


def summed(plan, turn, ledgers, data):
    keys = everybody()
    shares = [shared(s, plan, turn, keys, ledgers, data[s]) for s in SITES]
    return sum_privately(shares, turn, plan)


def test_without_noise_the_sum_is_that_of_all_clipped_patients(ledgers, monkeypatch):
    monkeypatch.setattr(module, "add_noise", lambda values, _: values)
    plan, turn = planned()
    data = {site: tables(seed, n=15, rate=2.0) for seed, site in enumerate(SITES)}
    release = summed(plan, turn, ledgers, data)
    units, exact = RESOLUTION**2, 0
    for x1, x2 in data.values():
        one = clip_rows(whole(x1, "codes"), 3, RESOLUTION)
        two = clip_rows(whole(x2, "concepts"), 2, RESOLUTION)
        exact = exact + (one.T @ two).toarray()
    np.testing.assert_array_equal(release.counts.D.toarray(), (exact + units // 2) // units)


@pytest.mark.parametrize("honest", [3, 1])
def test_each_site_adds_its_share_and_honest_ones_alone_keep_the_promise(
    ledgers, monkeypatch, honest
):
    drawn, real = [], module.add_noise
    monkeypatch.setattr(
        module, "add_noise", lambda values, scale: drawn.append(scale) or real(values, scale)
    )
    plan, turn = planned(honest, d=(30, 30))
    nobody = (np.zeros((2, 30), dtype=int),) * 2
    keys = summed(plan, turn, ledgers, dict.fromkeys(SITES, nobody))
    cells = keys.counts.D.toarray()
    units = RESOLUTION**2
    assert drawn == [plan.scale] * 4
    moved = 3 * 2 * units
    cost = rho_of_shares(moved, plan.scale, honest, 900)
    assert 0.9999 * rho_for(1.0, DELTA) < cost <= rho_for(1.0, DELTA)
    sigma = plan.scale / units * 2  # four independent shares
    assert cells.std() == pytest.approx(sigma, rel=5 / math.sqrt(2 * cells.size))
    assert keys.keys.sigma == pytest.approx(sigma)
    assert keys.keys.epsilon <= 1 + 1e-9
    for ledger in ledgers.values():
        (entry,) = ledger.read().releases
        assert epsilon_of(entry.rho, DELTA) == pytest.approx(1, abs=1e-6)


def test_the_manifest_says_who_added_what_and_its_lies_are_found(ledgers, tmp_path):
    plan, turn = planned()
    data = {site: tables(seed, n=15) for seed, site in enumerate(SITES)}
    folder = summed(plan, turn, ledgers, data).save(tmp_path / "out")
    counts, keys = load_counts(folder), read_manifest(folder).release
    assert (counts.sites, counts.units, counts.patients) == (4, None, None)
    assert keys.mechanism == "sum of discrete Gaussians"
    assert (keys.shares.sites, keys.shares.honest) == (SITES, 3)
    assert keys.shares.each * 2 == pytest.approx(keys.sigma) == counts.noise_sd
    assert keys.spent is None
    values = json.loads((folder / "manifest.json").read_text())
    for change, message in (
        ({"each": keys.shares.each / 2}, "truth about: sigma"),
        ({"honest": 4}, "truth about: shares"),
        ({"honest": 1}, "truth about: rho"),
        ({"sites": ["A", "B", "C", "C"]}, "truth about: shares"),
    ):
        lie = json.loads(json.dumps(values))
        lie["release"]["shares"].update(change)
        (folder / "manifest.json").write_text(json.dumps(lie))
        with pytest.raises(ArtefactError, match=message):
            load_counts(folder)
    values["release"]["shares"] = None
    (folder / "manifest.json").write_text(json.dumps(values))
    with pytest.raises(ArtefactError, match="truth about: spent"):
        load_counts(folder)


@pytest.mark.parametrize(
    "change",
    [{"scale": 0.5}, {"rho": 1.0}, {"epsilon": 0.5}, {"honest": 4}, {"clip": {"codes": 9}}],
)
def test_a_plan_that_breaks_its_promise_gets_no_share_and_costs_nothing(ledgers, tmp_path, change):
    plan, _ = planned()
    if "scale" in change:
        change = {"scale": plan.scale * 0.99}
    wrong = replace(plan, **change)
    turn, keys = Round("cd" * 16, SITES, wrong.digest), everybody()
    with pytest.raises(ArtefactError):
        shared("A", wrong, turn, keys, ledgers, tables())
    save_private_round(turn, wrong, tmp_path / "round.json")
    with pytest.raises(ArtefactError):
        load_private_round(tmp_path / "round.json")
    assert ledgers["A"].read().releases == ()
    assert not keys["A"].spent


def test_who_cannot_take_part_pays_nothing(ledgers):
    plan, turn = planned()
    keys = everybody()
    first = shared("A", plan, turn, keys, ledgers, tables())
    with pytest.raises(ArtefactError, match="masked for this round before"):
        shared("A", plan, turn, keys, ledgers, tables())
    assert len(ledgers["A"].read().releases) == 1
    with pytest.raises(ArtefactError, match="another layout"):
        shared("B", replace(plan, window="month"), turn, keys, ledgers, tables())
    assert ledgers["B"].read().releases == ()
    with pytest.raises(ArtefactError, match="dropped out"):
        sum_privately([first], turn, plan)
    again = Round("ef" * 16, SITES, plan.digest)
    with pytest.raises(ArtefactError, match="budget does not cover"):
        shared("A", plan, again, keys, ledgers, tables())
    assert again.name not in keys["A"].spent


def test_a_round_travels_as_a_file(tmp_path):
    plan, turn = planned()
    save_private_round(turn, plan, tmp_path / "round.json")
    assert load_private_round(tmp_path / "round.json") == (turn, plan)
    with pytest.raises(ArtefactError, match="private-share and private-sum"):
        load_round(tmp_path / "round.json")
    save_round(turn, tmp_path / "secure.json")
    with pytest.raises(ArtefactError, match="without noise"):
        load_private_round(tmp_path / "secure.json")
