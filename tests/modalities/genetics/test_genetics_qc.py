"""Quality control against slow loops and exact fractions."""

from fractions import Fraction
from math import factorial

import numpy as np
import pytest
from small_genomes import genomes, variant_table

from medmcl.modalities.genetics import panel as qc
from medmcl.modalities.genetics.variants import Variants, make_variants


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
