"""One patient moves the cells by no more than the noise was made for; the budget holds."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from small_counts import edit, tables, vocabularies

from medmcl.cooccurrence import Vocabulary
from medmcl.cooccurrence.count.tokens import whole
from medmcl.cooccurrence.exchange.folder import load_counts, read_manifest
from medmcl.cooccurrence.exchange.manifest import least_delta
from medmcl.cooccurrence.exchange.merging import merge
from medmcl.cooccurrence.release import clipping as module
from medmcl.cooccurrence.release import private as release_module
from medmcl.cooccurrence.release.accounting import add_noise, epsilon_of, rho_for, rho_of, scale_of
from medmcl.cooccurrence.release.clipping import (
    PrivateQuantile,
    clip_rows,
    noisy_quantile,
    patient_lengths,
)
from medmcl.cooccurrence.release.ledger import Ledger
from medmcl.cooccurrence.release.private import RESOLUTION, release_private
from medmcl.core.errors import ArtefactError, ConfigError, ExtraNotInstalledError
from medmcl.core.file_lock import alone


@pytest.fixture
def ledger(tmp_path):
    return Ledger.start(tmp_path / "ledger.json", epsilon=8, delta=1e-6)


def private(ledger, x1, x2, **changes):
    words = vocabularies(x1.shape[1], x2.shape[1])
    settings = {"vocabularies": words, "clip": (3, 3), "epsilon": 1.0, "delta": 1e-6, **changes}
    return release_private(x1, x2, ledger=ledger, **settings)


def squares(table):
    """Squared length of each row in Python's own whole numbers."""
    return [sum(int(v) ** 2 for v in row) for row in table.toarray()]


HUGE = st.sampled_from(
    [0, 1, 4095, 4096, 2**31, 2**31 + 1, 2**53, 2**62, 2**63 - 1, 2**63, 2**63 + 5, 2**64 - 1]
)
KINDS = st.sampled_from([np.uint64, np.int64, np.float64, np.float32, np.uint32, np.int8])


@settings(max_examples=80, deadline=None)
@given(st.lists(HUGE, min_size=1, max_size=6), KINDS, st.integers(1, 9))
def test_no_value_of_any_type_passes_the_bound(values, kind, bound):
    """What a cast would turn negative is refused, and clipped if it comes past that."""
    fit = [v for v in values if kind in (np.float64, np.float32) or v <= np.iinfo(kind).max]
    row = np.array([fit], dtype=kind)
    table = sparse.csr_array(row)
    clipped = clip_rows(table, bound, 16)
    assert clipped.data.dtype == np.int64
    assert (clipped.data >= 0).all()
    assert squares(clipped)[0] <= (16 * bound) ** 2
    known = np.minimum(np.array([fit], dtype=object), 4096)
    assert patient_lengths(table)[0] == math.isqrt(max(0, int((known**2).sum()) - 1)) + (
        1 if known.any() else 0
    )
    for one in (row, table):
        if any(int(v) >= 2**31 for v in row[0]):
            with pytest.raises(ArtefactError, match="too large for counts of one patient"):
                whole(one, "codes")
        else:
            assert whole(one, "codes").toarray().tolist() == [[int(v) for v in row[0]]]


def test_values_that_stand_twice_are_added_in_wide_numbers():
    twice = sparse.coo_array((np.array([200, 100], dtype=np.uint8), ([0, 0], [1, 1])), shape=(1, 2))
    assert whole(twice, "codes").toarray().tolist() == [[0, 300]]


def test_what_is_no_number_is_refused():
    for table in (np.array([[1 + 2j]]), np.array([[-1]]), np.array([[0.5]]), np.array([[np.nan]])):
        with pytest.raises(ArtefactError, match="codes holds"):
            whole(table, "codes")


TABLES = st.tuples(st.integers(0, 2**31), st.integers(1, 12), st.integers(1, 8),
                   st.sampled_from([0.3, 2, 50, 2**40]))  # fmt: skip


def drawn(case):
    seed, n, d, size = case
    generator = np.random.default_rng(seed)
    values = generator.integers(0, max(2, int(size)), (n, d), dtype=np.int64)
    return sparse.csr_array(values * (generator.random((n, d)) < 0.6))


@settings(max_examples=80, deadline=None)
@given(TABLES, st.integers(1, 40), st.sampled_from([1, 3, 16, 256]))
def test_no_patient_is_longer_than_the_bound(case, bound, resolution):
    table = drawn(case)
    clipped = clip_rows(table, bound, resolution)
    assert max(squares(clipped)) <= (resolution * bound) ** 2
    assert (clipped.data >= 0).all()
    for row, short in zip(table.toarray(), clipped.toarray(), strict=True):
        if sum(int(v) ** 2 for v in row) <= bound**2:
            assert (short == row * resolution).all()
    for k in range(table.shape[0]):  # what happens to one depends on no other
        alone = clip_rows(sparse.csr_array(table[[k]]), bound, resolution)
        assert (alone != clipped[[k]]).nnz == 0


@settings(max_examples=40, deadline=None)
@given(TABLES, st.integers(1, 9), st.integers(0, 2**31))
def test_windows_of_one_patient_count_together(case, bound, seed):
    table = drawn(case)
    owners = np.random.default_rng(seed).integers(0, 4, table.shape[0]).astype(str)
    clipped = clip_rows(table, bound, 16, owners)
    lengths = np.array(squares(clipped), dtype=object)
    for owner in set(owners):
        assert lengths[owners == owner].sum() <= (16 * bound) ** 2


@settings(max_examples=60, deadline=None)
@given(TABLES, TABLES, st.integers(1, 9), st.integers(1, 9), st.booleans())
def test_one_patient_moves_the_cells_no_further_than_the_sensitivity(one, two, b1, b2, windows):
    n = min(one[1], two[1])
    x1, x2 = (sparse.csr_array(drawn(case)[:n]) for case in (one, two))
    owners = np.arange(n) // (3 if windows else 1)
    y1, y2 = clip_rows(x1, b1, 16, owners), clip_rows(x2, b2, 16, owners)
    whole = (y1.T @ y2).toarray()
    for owner in np.unique(owners):
        rest = owners != owner
        z1, z2 = (
            clip_rows(sparse.csr_array(x[rest]), b, 16, owners[rest])
            for x, b in ((x1, b1), (x2, b2))
        )
        moved = whole - (z1.T @ z2).toarray()
        assert sum(int(v) ** 2 for v in moved.ravel()) <= (16 * 16 * b1 * b2) ** 2


def test_the_bound_is_reached():
    """The sensitivity is not padded: a patient with much in one token uses all of it."""
    table = sparse.csr_array(np.array([[500, 0]]))
    assert squares(clip_rows(table, 7, 16))[0] == (7 * 16) ** 2


def test_shortening_keeps_the_shape_of_a_record():
    row = np.ones((1, 50), dtype=np.int64)  # 50 codes, once each: length 7.07
    clipped = clip_rows(sparse.csr_array(row), 5, 16).toarray()[0]
    assert (clipped == clipped[0]).all()
    assert clipped[0] == 16 * 5 * 16 // 114  # ceil(16 sqrt 50) = 114; plain floor would give 0


def test_the_noise_is_whole_centred_and_of_the_stated_size(ledger):
    x1, x2 = np.zeros((3, 50), dtype=int), np.zeros((3, 50), dtype=int)
    release = private(ledger, x1, x2)
    cells, sigma = release.counts.D.toarray(), release.keys.sigma
    assert cells.dtype == np.int64
    assert abs(cells.mean()) < 5 * sigma / 50
    assert cells.std() == pytest.approx(sigma, rel=5 / math.sqrt(2 * 2500))
    assert abs(cells[:, :25].std() / cells[:, 25:].std() - 1) < 0.15
    assert (private(ledger, x1, x2).counts.D.toarray() != cells).mean() > 0.9


def test_sigma_is_as_large_as_the_budget_asks():
    for epsilon, analytic, formula in ((0.5, 8.06, 10.6), (1, 4.22, 5.35), (3, 1.54, 1.84)):
        scale = scale_of(1000, rho_for(epsilon, 1e-6)) / 1000
        assert analytic < scale < formula  # tight conversion lies between the two
        assert rho_of(1000, 1000 * scale) == pytest.approx(1 / (2 * scale**2))
    rho = rho_for(1.0, 1e-6)
    assert 0.999 < epsilon_of(rho, 1e-6) <= 1.0
    assert epsilon_of(4 * rho, 1e-6) <= 4 * rho + 2 * math.sqrt(4 * rho * math.log(1e6))


def test_cells_are_pairs_again_after_the_finer_units(ledger):
    x1 = np.tile([[1, 0]], (4000, 1))
    x2 = np.tile([[0, 2, 1]], (4000, 1))
    release = private(ledger, x1, x2)
    error = release.counts.D.toarray() - [[0, 8000, 4000], [0, 0, 0]]
    assert np.abs(error).max() < 6 * release.keys.sigma


def test_only_noisy_cells_over_the_public_vocabulary_leave(ledger, tmp_path):
    x1, x2 = tables(n=40)
    x1[:, 2] = 0  # nobody has it: it is named all the same
    release = private(ledger, x1, x2)
    counts = load_counts(release.save(tmp_path / "out"))
    assert (counts.units, counts.patients, counts.notes) == (None, None, ())
    assert len(counts.vocabularies["codes"]) == 6
    assert counts.blocks.keys() == {("codes", "concepts")}
    D = counts.D.toarray()
    assert (D < 0).any()
    np.testing.assert_array_equal(counts.margins["codes"].tokens, D.sum(axis=1))
    np.testing.assert_array_equal(counts.margins["concepts"].pairs, D.sum(axis=0))
    assert all(m.patients is None for m in counts.margins.values())
    keys = read_manifest(tmp_path / "out").release
    assert (keys.unit, keys.neighbours) == ("patient", "add or remove one patient")
    assert keys.epsilon == pytest.approx(1, abs=1e-6)
    assert keys.clip == {"codes": 3, "concepts": 3}
    assert (keys.sensitivity, keys.resolution, keys.delta) == (9, RESOLUTION, 1e-6)
    assert keys.sigma == counts.noise_sd
    assert keys.spent.releases == 1
    # older folders say that the noise was not of several sites
    edit(tmp_path / "out", lambda it: (it["release"].update(shares=None), it.pop("checksum")))
    assert (load_counts(tmp_path / "out").D != counts.D).nnz == 0


LIES = [
    ({"sigma": 1.0}, "truth about: standard deviation"),
    ({"sigma": 1.0, "noise_sd": 1.0}, "truth about: rho"),
    ({"sigma": float("inf"), "noise_sd": float("inf")}, "sigma'"),
    ({"rho": 1e-6}, "truth about: rho"),
    ({"rho": 0}, "rho'"),
    ({"rho": float("nan")}, "rho'"),
    ({"epsilon": 0.5}, "truth about: epsilon"),
    ({"epsilon": -1}, "epsilon'"),
    ({"delta": 0}, "delta'"),
    ({"delta": 1.0}, "delta'"),
    ({"delta": 1e-9}, "truth about: epsilon"),
    ({"sensitivity": 1}, "truth about: sensitivity"),
    ({"clip": {"codes": 1, "concepts": 1}}, "truth about: sensitivity"),
    ({"clip": {"codes": 9, "labs": 1}}, "truth about: clip"),
    ({"clip": {"codes": -3, "concepts": -3}}, "clip"),
    ({"resolution": 0}, "resolution'"),
    ({"spent.rho": 1e-6}, "truth about: spent.rho"),
    ({"spent.releases": 0}, "truth about: spent.rho"),
    ({"spent.epsilon": 0.1}, "truth about: spent.epsilon"),
    ({"spent": None}, "spent'"),
    ({"shares": {"sites": ["A", "B", "C"], "honest": 2, "each": 9.0}}, "shares'"),
    ({"clip_chosen.codes.longest": 1}, "truth about: clip of codes"),
    ({"clip_chosen.codes.rho": 1.0}, "truth about: rho"),
]


@pytest.mark.parametrize(("changes", "said"), LIES, ids=[str(changes) for changes, _ in LIES])
def test_a_private_manifest_that_contradicts_itself_is_refused(
    ledger, tmp_path, monkeypatch, changes, said
):
    monkeypatch.setattr(module, "add_noise", lambda bins, _: bins)  # a bound above 1 for certain
    first = PrivateQuantile() if "clip_chosen" in str(changes) else 3
    folder = private(ledger, *tables(), clip=(first, 3)).save(tmp_path / "out")
    load_counts(folder)

    def lie(values):
        for name, value in changes.items():
            holder = values if name == "noise_sd" else values["release"]
            *inside, last = name.split(".")
            for one in inside:
                holder = holder[one]
            holder[last] = value

    edit(folder, lie)
    with pytest.raises(ArtefactError, match=said):
        load_counts(folder)


@pytest.mark.parametrize("epsilon", [0.05, 1.0, 7.0])
@pytest.mark.parametrize("delta", [1e-4, 1e-9])
def test_what_opendp_says_is_never_taken_for_a_lie(epsilon, delta):
    rho = rho_for(epsilon, delta)
    assert least_delta(rho, epsilon_of(rho, delta)) <= delta
    assert least_delta(rho, 0.7 * epsilon) > delta


@pytest.mark.parametrize(("rho", "epsilon"), [(0.1, 0.3), (0.5, 2.0), (2.0, 1.0)])
def test_least_delta_is_the_integral_over_where_the_densities_differ(rho, epsilon):
    m = math.sqrt(2 * rho)
    x = np.linspace(-20, 20, 400_001)
    densities = [np.exp(-((x - mean) ** 2) / 2) / math.sqrt(2 * math.pi) for mean in (m, 0)]
    more = np.maximum(densities[0] - math.exp(epsilon) * densities[1], 0)
    assert least_delta(rho, epsilon) == pytest.approx(more.sum() * (x[1] - x[0]), rel=1e-4)


@pytest.mark.parametrize(
    ("key", "wrong"),
    [
        *(("epsilon", wrong) for wrong in (0, -1, math.inf)),
        ("delta", 2),
        *(("rho", wrong) for wrong in (-1, 0, "NaN", math.inf)),
    ],
)
def test_a_ledger_without_bound_or_that_gives_back_is_refused(ledger, key, wrong):
    values = json.loads(ledger.path.read_text())
    changed = {"releases": [{"what": "gift", "rho": wrong}]} if key == "rho" else {key: wrong}
    ledger.path.write_text(json.dumps({**values, **changed}))
    with pytest.raises(ArtefactError, match=key):
        private(ledger, *tables())


def test_private_releases_of_sites_add_up_with_their_noise(ledger):
    a, b = (private(ledger, *tables(seed)) for seed in (0, 1))
    both = merge(a.counts, b.counts)
    assert both.noise_sd == pytest.approx(a.keys.sigma * math.sqrt(2))
    assert (both.D.toarray() == a.counts.D.toarray() + b.counts.D.toarray()).all()


def test_the_ledger_adds_up_and_stops(tmp_path):
    ledger = Ledger.start(tmp_path / "l.json", epsilon=2, delta=1e-6)
    x = tables()
    spent = [private(ledger, *x).keys.spent for _ in range(3)]
    rho = rho_for(1.0, 1e-6)
    assert [s.releases for s in spent] == [1, 2, 3]
    assert [s.rho for s in spent] == pytest.approx([rho, 2 * rho, 3 * rho], rel=1e-9)
    assert spent[2].epsilon == pytest.approx(epsilon_of(3 * rho, 1e-6), rel=1e-9)
    assert 1 < spent[1].epsilon < 2  # less than twice: rho adds up, epsilon need not
    left = ledger.left()
    assert 0 < left < 1
    with pytest.raises(ArtefactError, match=f"at most {left:.3g} at that delta"):
        private(ledger, *x, epsilon=left * 1.001)
    with pytest.raises(ArtefactError, match=r"budget does not cover(.|\n)*with 3 before"):
        private(ledger, *x)
    assert ledger.spent() == spent[2]
    with pytest.raises(ArtefactError, match="fixed once"):
        Ledger.start(tmp_path / "l.json", epsilon=9, delta=1e-6)


def test_a_release_that_dies_was_paid_for(ledger, monkeypatch):
    def die(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("medmcl.cooccurrence.release.private.add_noise", die)
    with pytest.raises(KeyboardInterrupt):
        private(ledger, *tables())
    assert len(ledger.read().releases) == 1
    assert not ledger.path.with_name(".ledger.json.lock").exists()


def test_two_releases_do_not_charge_at_once(ledger):
    refused = pytest.raises(ArtefactError, match="another release is being charged")
    with alone(ledger.path, "held"), refused:
        private(ledger, *tables())
    assert not ledger.read().releases


def test_no_ledger_no_release(tmp_path):
    with pytest.raises(ArtefactError, match="no budget here"):
        private(Ledger(tmp_path / "none.json"), *tables())


def test_what_is_no_count_is_refused_and_paid_for(ledger):
    x1, x2 = tables(0)
    x1[0, 0] = -1
    with pytest.raises(ArtefactError, match=r"holds values that are no counts; .*charged"):
        private(ledger, x1, x2)
    assert len(ledger.read().releases) == 1


WORDS = vocabularies(6, 5)
UNFIT = [
    ({"vocabularies": {**WORDS, "codes": Vocabulary(WORDS["codes"].tokens)}}, "has no version"),
    ({"vocabularies": vocabularies(7, 5)}, "codes does not fit its vocabulary"),
    ({"window": "days:3", "patients": np.arange(60)}, "sliding windows overlap"),
    ({"window": "fortnight", "patients": np.arange(60)}, "unknown window"),
    ({"window": "month"}, "whose windows"),
    ({"patients": [1, 2]}, "not hold the same rows"),
    ({"epsilon": 0}, "epsilon promises nothing"),
    ({"epsilon": math.inf}, "epsilon promises nothing"),
    ({"epsilon": 1e5}, "at most 1000"),
    ({"delta": 0.01}, "delta promises nothing"),
    ({"clip": (0, 3)}, "whole bounds"),
    ({"clip": (PrivateQuantile(), 0)}, "whole bounds"),
    ({"clip": (PrivateQuantile(), 3), "clip_share": 0.0}, "leaves nothing for bounds"),
    ({"clip": (PrivateQuantile(), 3), "clip_share": 1.0}, "leaves nothing for bounds"),
]


@pytest.mark.parametrize(("changes", "said"), UNFIT)
def test_what_would_not_be_private_is_refused_unpaid(ledger, changes, said):
    with pytest.raises((ArtefactError, ConfigError), match=said):
        private(ledger, *tables(), **changes)
    assert ledger.read().releases == ()


def test_without_opendp_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "opendp.prelude", None)
    with pytest.raises(ExtraNotInstalledError, match=r"medmcl\[dp\]"):
        add_noise(np.zeros(1, dtype=np.int64), 1.0)


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
    made = private(ledger, x1, x2, clip=(chosen, chosen if both else 3), clip_share=0.2)
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
