"""The genetics adapter: what fit learns, what preparation gives, what cannot leak."""

from __future__ import annotations

import json
from fractions import Fraction
from math import factorial

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from row_draws import row_generator
from small_genomes import genomes, variant_table

from medmcl.core.contracts import NamesFiles, RecordRef
from medmcl.core.errors import CohortError, RecordError
from medmcl.modalities.genetics import panel as qc
from medmcl.modalities.genetics.adapter import Genetics
from medmcl.modalities.genetics.panel import Ancestry
from medmcl.modalities.genetics.settings import GeneticsAugment, GeneticsSettings, GeneticsSource
from medmcl.modalities.genetics.variants import Genotypes, Variants, make_variants

PEOPLE, COUNT = 160, 80


def variants_of(table, where="train.bed"):
    return make_variants(
        list(table["id"]), [str(c) for c in table["chromosome"]],
        table["position"].to_numpy(), list(table["counted"]), list(table["other"]), where,
    )  # fmt: skip


def raws_of(genotypes, variants, groups=None):
    groups = [""] * len(genotypes) if groups is None else groups
    return [
        Genotypes(np.maximum(row, 0), row >= 0, variants, group)
        for row, group in zip(genotypes, groups, strict=True)
    ]


@pytest.fixture(scope="module")
def world():
    genotypes, population, _ = genomes(PEOPLE, COUNT, missing=0.02, apart=0.3)
    return genotypes, population, variants_of(variant_table(COUNT))


def fitted(world, gives="dosages", people=PEOPLE, **settings):
    genotypes, population, variants = world
    source = GeneticsSource(reader="plink", gives=gives)
    settings = {"components": 3, "variant_call_rate": 0.9, **settings}
    adapter = Genetics(source, GeneticsSettings(**settings))
    groups = ["AB"[p] for p in population[:people]]
    adapter.fit(raws_of(genotypes[:people], variants, groups))
    return adapter


def test_dosages_are_standardised_by_train_frequencies(world):
    genotypes, _, variants = world
    adapter = fitted(world, people=100)
    new = genotypes[120]
    row = adapter.prepare(raws_of(genotypes[120:121], variants)[0])
    assert row.dtype == np.float32
    assert row.shape == adapter.prepared_shape == (2, len(adapter.panel.variants))
    for place, name in enumerate(adapter.input_shape.names):
        column = int(name[2:])
        seen = [int(g) for g in genotypes[:100, column] if g >= 0]
        p = sum(seen) / (2 * len(seen))
        if new[column] < 0:
            assert row[:, place].tolist() == [0, 0]
        else:
            expected = (new[column] - 2 * p) / np.sqrt(2 * p * (1 - p))
            assert row[0, place] == pytest.approx(expected, rel=1e-5)
            assert row[1, place] == 1


def test_every_exclusion_is_counted_under_its_first_rule():
    rng = np.random.default_rng(0)
    genotypes = rng.binomial(2, 0.4, size=(200, 12)).astype(np.int8)
    table = variant_table(12).astype({"chromosome": str})
    table.loc[0, "chromosome"] = "X"
    table.loc[2, ["position", "counted", "other"]] = table.loc[1, ["position", "other", "counted"]]
    table.loc[3, ["counted", "other"]] = ["C", "G"]
    genotypes[:30, 4] = -1
    genotypes[:, 5] = 0
    genotypes[:, 6] = (rng.random(200) < 0.01).astype(np.int8)
    genotypes[:, 7] = 1
    variants = variants_of(table)
    source, settings = GeneticsSource(reader="plink"), {"min_frequency": 0.02, "components": 0}
    adapter = Genetics(source, GeneticsSettings(**settings, ambiguous="exclude"))
    adapter.fit(raws_of(genotypes, variants))
    assert adapter.state()["excluded"] == {
        "sex_linked": ["rs0"], "duplicate": ["rs2"], "ambiguous": ["rs3"], "call_rate": ["rs4"],
        "frequency": ["rs5", "rs6"], "equilibrium": ["rs7"],
    }  # fmt: skip
    assert adapter.input_shape.names == ("rs1", "rs8", "rs9", "rs10", "rs11")
    (finding,) = adapter.inspect_together(raws_of(genotypes, variants))
    assert (finding.code, finding.level) == ("genetics.quality", "warning")
    for said in (
        "5 variants of 12 used",
        "2 minor allele too rare (rs5, rs6)",
        "200 train records",
    ):
        assert said in finding.what
    kept = Genetics(source, GeneticsSettings(**settings, equilibrium_p=0))
    kept.fit(raws_of(genotypes, variants))
    assert {"rs3", "rs7"} <= set(kept.input_shape.names)
    assert "1 of those used are A/T or C/G" in kept.inspect_together([])[0].what


def test_nothing_left_and_nobody_there_are_errors(world):
    genotypes, _, variants = world
    adapter = Genetics(GeneticsSource(reader="plink"), GeneticsSettings())
    with pytest.raises(CohortError, match="nobody in train"):
        adapter.fit([])
    with pytest.raises(CohortError, match=r"leaves no variant\n.*80 minor allele too rare"):
        adapter.fit(raws_of(np.zeros_like(genotypes), variants))
    with pytest.raises(CohortError, match="nobody in train is a control"):
        adapter.fit(raws_of(genotypes, variants, [None] * PEOPLE))
    with pytest.raises(RuntimeError, match="comes before"):
        Genetics(GeneticsSource(reader="plink"), GeneticsSettings()).prepare(
            raws_of(genotypes, variants)[0]
        )


def test_only_controls_and_one_ancestry_at_a_time_are_tested_for_equilibrium():
    source = GeneticsSource(reader="plink", controls={"case": 0}, ancestry="population")
    adapter = Genetics(source, GeneticsSettings())

    def place(**cells):
        return RecordRef(subject="s", record="s", values=cells)

    assert adapter._group(place(case=0.0, population="A")) == "A"
    assert adapter._group(place(case=1, population="A")) is None
    assert adapter._group(place(case=None, population="A")) is None
    assert adapter._group(place(case="0", population=None)) is None
    with pytest.raises(ValidationError, match="one column"):
        GeneticsSource(reader="plink", controls={"a": 0, "b": 1})


def test_state_travels_as_json_and_prepares_the_same_bits(world):
    genotypes, _, variants = world
    for settings in ({}, {"residualise": True}, {"prune_r2": 0.05, "prune_for": "all"}):
        adapter = fitted(world, **settings)
        other = Genetics(adapter.source, adapter.settings)
        other.load_state(json.loads(json.dumps(adapter.state())))
        for raw in raws_of(genotypes[:9], variants):
            assert np.array_equal(adapter.prepare(raw), other.prepare(raw))
        assert other.input_shape == adapter.input_shape
        assert other.state() == adapter.state()
    again = fitted(world)
    assert again.state() == fitted(world).state()


def other_file(genotypes, table, where):
    """The same people in a file whose alleles are turned and flipped, in another order."""
    rng = np.random.default_rng(5)
    table, genotypes = table.copy(), genotypes.copy()
    turned, strand = rng.random(len(table)) < 0.5, rng.random(len(table)) < 0.5
    table.loc[turned, ["counted", "other"]] = table.loc[turned, ["other", "counted"]].to_numpy()
    genotypes[:, turned] = np.where(genotypes[:, turned] < 0, -1, 2 - genotypes[:, turned])
    swap = dict(zip("ACGT", "TGCA", strict=True))
    table.loc[strand, ["counted", "other"]] = table.loc[strand, ["counted", "other"]].map(swap.get)
    order = rng.permutation(len(table))
    return genotypes[:, order], variants_of(table.iloc[order], where)


def test_alleles_flipped_in_another_file_change_no_bit(world):
    genotypes, _, variants = world
    flipped, theirs = other_file(genotypes, variant_table(COUNT), "new.bed")
    for settings in ({"gives": "dosages"}, {"gives": "components"}, {"residualise": True}):
        adapter = fitted(world, **settings)
        for mine, other in zip(
            raws_of(genotypes[:20], variants), raws_of(flipped[:20], theirs), strict=True
        ):
            assert np.array_equal(adapter.prepare(mine), adapter.prepare(other))
    adapter.load_state(adapter.state())
    (finding,) = adapter.inspect_together(raws_of(flipped, theirs))
    assert finding.code == "genetics.alleles"
    assert "count the other allele and were turned" in finding.what
    assert "of the other strand and were translated" in finding.what


def test_two_batches_of_one_study_are_fitted_as_one(world):
    genotypes, population, variants = world
    flipped, theirs = other_file(genotypes, variant_table(COUNT), "batch2.bed")
    adapter, whole = (Genetics(GeneticsSource(reader="plink"), GeneticsSettings(components=3,
                      variant_call_rate=0.9)) for _ in range(2))  # fmt: skip
    groups = ["AB"[p] for p in population]
    mixed = raws_of(genotypes[:80], variants, groups[:80])
    mixed += raws_of(flipped[80:], theirs, groups[80:])
    adapter.fit(mixed)
    whole.fit(raws_of(genotypes, variants, groups))
    assert adapter.state() == whole.state()


def test_alleles_exchanged_without_a_trace_are_told_by_frequency(world):
    genotypes, _, variants = world
    adapter = fitted(world)
    adapter.load_state(adapter.state())
    turned = np.where(genotypes < 0, -1, 2 - genotypes)
    assert adapter.inspect_together(raws_of(genotypes, variants)) == []
    (finding,) = adapter.inspect_together(raws_of(turned, variants))
    assert (finding.code, finding.level) == ("genetics.turned", "error")
    one = genotypes.copy()
    adapter_p = dict(zip(adapter.input_shape.names, adapter.panel.frequency, strict=True))
    name = min(adapter_p, key=adapter_p.get)
    column = int(name[2:])
    one[:, column] = turned[:, column]
    (finding,) = adapter.inspect_together(raws_of(one, variants))
    assert (finding.code, finding.level) == ("genetics.turned", "warning")
    assert f"({name};" in finding.what


def test_another_set_of_variants_is_refused_and_few_missing_ones_are_not_called(world):
    genotypes, _, variants = world
    adapter = fitted(world, panel_share=0.9)
    few = variants.take(np.arange(COUNT - 4))
    row = adapter.prepare(Genotypes(np.maximum(genotypes[0, :-4], 0), genotypes[0, :-4] >= 0, few))
    lost = [n for n, name in enumerate(adapter.input_shape.names) if int(name[2:]) >= COUNT - 4]
    assert lost
    assert not row[:, lost].any()
    renamed = variants_of(variant_table(COUNT).assign(id=[f"chr:{n}" for n in range(COUNT)]), "n")
    raw = raws_of(genotypes[:1], renamed)[0]
    with pytest.raises(RecordError, match="has 0% of the"):
        adapter.prepare(raw)
    (finding,) = adapter.inspect_together([raw])[1:]
    assert (finding.code, finding.level) == ("genetics.panel", "error")
    assert "the file: chr:0; needed: rs" in finding.fix


@pytest.mark.parametrize("settings", [{}, {"residualise": True}, {"gives": "components"}])
def test_what_stands_in_an_absent_call_has_no_influence(world, settings):
    genotypes, _, variants = world
    adapter = fitted(world, **settings)
    called = genotypes[0] >= 0
    called[::7] = False
    rows = [
        adapter.prepare(Genotypes(np.where(called, genotypes[0], fill).astype(np.int8), called,
                                  variants))
        for fill in (0, 2, -1, 99)
    ]  # fmt: skip
    assert all(np.array_equal(rows[0], row) for row in rows)
    if adapter.source.gives == "dosages":
        absent = rows[0][1] == 0
        assert absent.any()
        assert not rows[0][0, absent].any()


def test_components_are_those_of_the_whole_decomposition_and_tell_populations_apart(world):
    genotypes, population, variants = world
    train, adapter = 120, fitted(world, people=120, gives="components")
    rows = np.stack([adapter.prepare(raw) for raw in raws_of(genotypes, variants)])
    scores = rows[:, 0]
    assert (rows[:, 1] == 1).all()
    np.testing.assert_allclose(np.sqrt((scores[:train] ** 2).mean(axis=0)), 1, rtol=1e-4)
    p = adapter.panel.frequency
    columns = [int(name[2:]) for name in adapter.panel.variants.ids]
    chosen = genotypes[:, columns]
    x = np.where(chosen >= 0, (chosen - 2 * p) / np.sqrt(2 * p * (1 - p)), 0)
    u, s, _ = np.linalg.svd(x[:train], full_matrices=False)
    exact = np.abs(np.corrcoef(scores[:train].T, u[:, :3].T)[:3, 3:]).diagonal()
    assert (exact > [0.9999, 0.98, 0.98]).all()
    explained = s[:3] ** 2 / (s**2).sum()
    np.testing.assert_allclose(adapter.panel.ancestry.explained, explained, rtol=0.02)
    new = scores[train:, 0]
    apart = abs(new[population[train:] == 1].mean() - new[population[train:] == 0].mean())
    assert apart > 4 * new[population[train:] == 1].std()
    shrinkage = adapter.panel.ancestry.shrinkage
    assert shrinkage[0] > 0.85  # two populations are real, other directions are people
    assert (shrinkage[1:] < 0.85).all()


def test_residuals_are_those_of_least_squares_and_know_no_population(world):
    genotypes, population, variants = world
    plain, residual, scores = (
        np.stack([adapter.prepare(raw) for raw in raws_of(genotypes, variants)])
        for adapter in (fitted(world, variant_call_rate=0),
                        fitted(world, variant_call_rate=0, residualise=True),
                        fitted(world, variant_call_rate=0, gives="components"))
    )  # fmt: skip
    called = plain[:, 1] == 1
    fit = np.linalg.lstsq(scores[:, 0].astype(float), plain[:, 0].astype(float), rcond=None)[0]
    expected = np.where(called, plain[:, 0] - scores[:, 0] @ fit, 0)
    np.testing.assert_allclose(residual[:, 0], expected, atol=1e-4)
    before, after = (np.abs(x[population == 1, 0].mean(0) - x[population == 0, 0].mean(0))
                     for x in (plain, residual))  # fmt: skip
    assert after.mean() < 0.1 * before.mean()


def test_pruned_variants_carry_no_loading(world):
    adapter = fitted(world, prune_r2=0.03)
    used = np.abs(adapter.panel.ancestry.loadings).sum(axis=1) > 0
    assert 3 < used.sum() < len(used)
    every = fitted(world, prune_r2=0.03, prune_for="all")
    assert every.panel.variants.ids == adapter.panel.variants.take(np.flatnonzero(used)).ids
    assert len(every.panel.excluded["linkage"]) == (~used).sum()
    assert len(every.panel.frequency) == used.sum()


def test_more_components_than_people_allow_are_refused_where_they_are_needed(world):
    with pytest.raises(CohortError, match="too few train people"):
        fitted(world, people=12, components=6, gives="components")
    with pytest.raises(CohortError, match="too few train people"):
        fitted(world, components=0, residualise=True)
    few = fitted(world, people=12, components=6)
    assert few.panel.ancestry.count == 5
    none = fitted(world, components=0)
    assert set(none.simple_features(raws_of(world[0][:1], world[2])[0])) == {
        "call_rate", "heterozygosity",
    }  # fmt: skip


def test_simple_features_are_calls_heterozygosity_and_components(world):
    genotypes, _, variants = world
    adapter = fitted(world)
    values = adapter.simple_features(raws_of(genotypes[:1], variants)[0])
    columns = [int(name[2:]) for name in adapter.input_shape.names]
    mine = genotypes[0, columns]
    assert values["call_rate"] == pytest.approx((mine >= 0).mean())
    assert values["heterozygosity"] == pytest.approx((mine == 1).sum() / (mine >= 0).sum())
    assert list(values)[2:] == ["PC1", "PC2", "PC3"]


def test_too_few_calls_are_a_fault_of_the_person(world):
    adapter = fitted(world)
    place = RecordRef(subject="s", record="r")
    calls = np.ones(COUNT, dtype=bool)
    raw = Genotypes(np.zeros(COUNT, dtype=np.int8), calls, world[2])
    assert adapter.inspect(raw, place) == []
    calls[:5] = False
    (finding,) = adapter.inspect(raw, place)
    assert (finding.code, finding.level) == ("genetics.call_rate", "error")
    assert "93.8% of 80 variants" in finding.what


def test_views_drop_calls_and_zero_what_is_absent(world):
    genotypes, _, variants = world
    adapter = fitted(world)
    rows = torch.from_numpy(np.stack([adapter.prepare(r) for r in raws_of(genotypes, variants)]))
    assert torch.equal(adapter.plain(rows), rows)
    spoiled = rows.clone()
    spoiled[:, 0][rows[:, 1] == 0] = torch.nan
    assert torch.equal(adapter.plain(spoiled), rows)
    generator = row_generator()
    out = adapter.augment(spoiled, GeneticsAugment(dropout=0.3), generator)
    kept = out[:, 1].sum() / rows[:, 1].sum()
    assert 0.67 < kept < 0.73
    assert not out[:, 0][out[:, 1] == 0].any()
    assert torch.equal(out[:, 0][out[:, 1] == 1], rows[:, 0][out[:, 1] == 1])
    assert out.isfinite().all()


def test_places_and_names_say_what_a_column_is(world):
    shape = fitted(world).input_shape
    assert shape.kind == "genetics"
    assert len(shape.places) == len(shape.names) == shape.shape[1] == len(shape.cardinalities)
    number = int(shape.names[0][2:])
    assert shape.places[0] == f"1:{1000 * (number + 1)}"
    components = fitted(world, gives="components").input_shape
    assert (components.names, components.places) == (("PC1", "PC2", "PC3"), ())


def test_the_files_of_a_record_are_all_three(tmp_path):
    adapter = Genetics(GeneticsSource(reader="plink"), GeneticsSettings())
    assert isinstance(adapter, NamesFiles)
    place = RecordRef(subject="s", record="s", paths={"path": tmp_path / "g.bed"})
    assert [file.name for file in adapter.files(place)] == ["g.bed", "g.bim", "g.fam"]
    tables = Genetics(GeneticsSource(reader="dosages"), GeneticsSettings())
    assert tables.files(place) == [tmp_path / "g.bed"]


def test_a_component_of_noise_shrinks_and_signs_are_fixed():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 900))
    found = Ancestry.fit(x, np.ones(900, dtype=bool), 2)
    fresh = found.project(rng.normal(size=(400, 900)))
    measured = np.sqrt((fresh**2).mean(axis=0))
    assert (measured < 0.5).all()
    np.testing.assert_allclose(found.shrinkage, measured, atol=0.12)
    largest = found.loadings[np.abs(found.loadings).argmax(axis=0), [0, 1]]
    assert (largest > 0).all()
    turned = Ancestry.fit(-x, np.ones(900, dtype=bool), 2)
    np.testing.assert_allclose(turned.loadings, found.loadings, atol=1e-8)


def variants(rows):
    ids, chromosomes, positions, counted, other = zip(*rows, strict=True)
    return make_variants(ids, chromosomes, np.array(positions), counted, other, "here")


def of_table(count) -> Variants:
    table = variant_table(count)
    return make_variants(
        list(table["id"]), [str(c) for c in table["chromosome"]], table["position"].to_numpy(),
        list(table["counted"]), list(table["other"]), "here",
    )  # fmt: skip


def slow_hardy_weinberg(hets, homs, others):
    """Every arrangement of the alleles, with whole numbers."""
    people = hets + homs + others
    copies = 2 * homs + hets
    weights = {}
    for h in range(copies % 2, min(copies, 2 * people - copies) + 1, 2):
        two, none = (copies - h) // 2, people - h - (copies - h) // 2
        ways = factorial(people) // (factorial(h) * factorial(two) * factorial(none))
        weights[h] = ways * 2**h
    total = sum(weights.values())
    return float(sum(Fraction(w, total) for w in weights.values() if w <= weights[hets]))


@pytest.mark.parametrize("people", [1, 2, 7, 20])
def test_equilibrium_is_exact(people):
    for hets in range(people + 1):
        for homs in range(people - hets + 1):
            others = people - hets - homs
            found = qc.hardy_weinberg(hets, homs, others)
            assert found == pytest.approx(slow_hardy_weinberg(hets, homs, others), rel=1e-9)
            assert found == qc.hardy_weinberg(hets, others, homs)


def test_equilibrium_at_the_ends_and_of_many_people():
    assert qc.hardy_weinberg(0, 0, 0) == 1
    assert qc.hardy_weinberg(0, 50, 0) == 1
    assert qc.hardy_weinberg(1, 0, 49) == 1
    assert qc.hardy_weinberg(400, 0, 0) == pytest.approx(slow_hardy_weinberg(400, 0, 0), rel=1e-6)
    assert qc.hardy_weinberg(100_000, 50_000, 50_000) == pytest.approx(1, abs=0.01)
    assert qc.hardy_weinberg(98_000, 51_000, 51_000) < 1e-10


def test_two_populations_together_are_out_of_equilibrium_and_each_is_in_it():
    rng = np.random.default_rng(0)
    population = np.arange(400) % 2
    dosage = rng.binomial(2, np.where(population, 0.9, 0.1)[:, None], size=(400, 20))
    together = qc.equilibrium(dosage, [""] * 400)
    apart = qc.equilibrium(dosage, ["AB"[p] for p in population])
    assert (together < 1e-20).all()
    assert (apart > 1e-4).all()
    only = qc.equilibrium(dosage, [None if p else "" for p in population])
    slow = [qc.hardy_weinberg(*[(c[population == 0] == k).sum() for k in (1, 2, 0)])
            for c in dosage.T]  # fmt: skip
    np.testing.assert_allclose(only, slow)
    assert (qc.equilibrium(dosage, [None] * 400) == 1).all()


def test_frequencies_and_call_rates_count_called_people_only():
    genotypes, _, _ = genomes(people=30, variants=12, missing=0.3)
    genotypes[:, 3] = -1
    p, calls = qc.frequencies(genotypes)
    for column in range(12):
        seen = [int(g) for g in genotypes[:, column] if g >= 0]
        assert calls[column] == pytest.approx(len(seen) / 30)
        assert p[column] == pytest.approx(sum(seen) / (2 * len(seen)) if seen else 0)
    dosages = np.array([[0.5], [1.75], [-1.0]], dtype=np.float32)
    assert qc.frequencies(dosages)[0][0] == pytest.approx(2.25 / 4)


def test_duplicates_are_found_by_id_and_by_place_and_alleles():
    found = qc.duplicates(
        variants(
            [
                ("rs1", "1", 10, "A", "G"),
                ("rs1", "2", 99, "A", "G"),  # the same id
                ("rs2", "chr1", 10, "G", "A"),  # the same place and alleles
                ("rs3", "1", 10, "A", "T"),  # another allele there
                ("rs4", "2", 0, "A", "G"),
                ("rs5", "2", 0, "A", "G"),  # unknown places are not the same place
                (".", "3", 7, "A", "G"),
                (".", "3", 8, "A", "G"),
                (".", "3", 8, "G", "A"),
            ]
        )
    )
    assert found.tolist() == [False, True, True, False, False, False, False, False, True]


def test_alleles_that_look_alike_from_both_strands_and_sex_chromosomes():
    some = variants(
        [("a", "1", 1, "A", "T"), ("b", "X", 2, "c", "g"), ("c", "chrMT", 3, "A", "G"),
         ("d", "22", 4, "AT", "AT"), ("e", "1", 5, "L", "H"), ("f", "25", 6, "0", "A")]
    )  # fmt: skip
    assert qc.ambiguous(some).tolist() == [True, True, False, True, False, False]
    assert qc.sex_linked(some).tolist() == [False, True, True, False, False, True]


@pytest.mark.parametrize("window", [1, 4, 50])
def test_pruning_equals_slow_loops(window):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(80, 24))
    x[:, 1::3] = x[:, ::3] + 0.4 * x[:, 1::3]
    x[:, 9] = 0
    some = of_table(24)
    shuffled = rng.permutation(24)
    some, x = some.take(shuffled), x[:, shuffled]
    kept = qc.prune(x, some, 0.3, window)
    order = sorted(range(24), key=lambda n: (some.chromosomes[n], some.positions[n]))
    slow: list[int] = []
    for n in order:
        before = [m for m in slow if some.chromosomes[m] == some.chromosomes[n]][-window:]

        def r2(a, b):
            size = (x[:, a] @ x[:, a]) * (x[:, b] @ x[:, b])
            return (x[:, a] @ x[:, b]) ** 2 / size if size else 0

        if all(r2(n, m) <= 0.3 for m in before):
            slow.append(n)
    assert np.flatnonzero(kept).tolist() == sorted(slow)
    assert 0 < kept.sum() < 24
