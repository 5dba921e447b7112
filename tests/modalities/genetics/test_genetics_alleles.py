"""Alleles of another file: turned, of the other strand, unwritten, doubtful, others."""

import itertools

import numpy as np
import pytest

from medmcl.modalities.genetics.variants import (
    Genotypes,
    align,
    compare_frequencies,
    complement,
    make_variants,
    match_alleles,
)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (("A", "G"), (False, False)),
        (("G", "A"), (True, False)),
        (("T", "C"), (False, True)),
        (("C", "T"), (True, True)),
        (("A", "C"), None),
        (("A", "T"), None),
        (("0", "G"), (False, False)),  # nobody has A
        (("0", "A"), (True, False)),  # nobody has G
        (("0", "C"), (False, True)),
        (("0", "T"), (True, True)),
        (("0", "0"), None),
        (("L", "H"), None),
    ],
)
def test_alleles_are_matched(given, found):
    assert match_alleles(given, ("A", "G")) == found


def test_ambiguous_pairs_count_as_the_same_strand():
    assert match_alleles(("A", "T"), ("A", "T")) == (False, False)
    assert match_alleles(("T", "A"), ("A", "T")) == (True, False)
    assert match_alleles(("H", "L"), ("L", "H")) == (True, False)
    assert match_alleles(("AC", "A"), ("GT", "T")) == (False, True)
    assert complement("AC") == "GT"
    assert complement("") is None


def test_every_way_of_writing_a_variant_reads_the_same():
    """True copies of A at an A/G variant, written from either strand counting either allele."""
    panel = make_variants(["rs1"], ["1"], np.array([5]), ["A"], ["G"], "panel")
    for copies, flipped, turned in itertools.product((0, 1, 2), (False, True), (False, True)):
        alleles = ("T", "C") if flipped else ("A", "G")
        if turned:
            alleles = alleles[::-1]
        file = make_variants(["rs1"], ["chr1"], np.array([5]), [alleles[0]], [alleles[1]], "f")
        dosage = np.array([2 - copies if turned else copies], dtype=np.int8)
        read = align(file, panel).read(Genotypes(dosage, np.array([True]), file))
        assert read[0].tolist() == [copies]
        assert read[1].all()


def test_an_alignment_says_what_it_did():
    ids = ["same", "turned", "strand", "doubt", "other", "gone", "moved", "none"]
    panel = make_variants(
        ids, ["1"] * 8, np.arange(1, 9), list("AAAAAAAA"), list("GGGTGGGG"), "panel"
    )
    file = make_variants(
        ["new", "moved", "other", "doubt", "strand", "turned", "same", "none"],
        ["1", "1", "1", "1", "1", "1", "1", "2"],
        np.array([77, 700, 5, 4, 3, 2, 1, 0]),
        list("AAATTGAA"),
        list("GGCACAGG"),
        "file",
    )
    found = align(file, panel)
    assert found.columns.tolist() == [6, 5, 4, -1, -1, -1, 1, 7]
    assert np.flatnonzero(found.turned).tolist() == [1]
    assert np.flatnonzero(found.strand).tolist() == [2]
    assert np.flatnonzero(found.doubtful).tolist() == [3]
    assert found.other_alleles == ("other",)
    assert found.moved == ("moved", "none")
    assert found.share == 5 / 8
    dosage = np.array([9, 1, 2, 2, 1, 0, 2, 1], dtype=np.int8)
    called = np.array([True, True, True, True, True, True, True, False])
    values, there = found.read(Genotypes(dosage, called, file))
    assert values.tolist() == [2, 2, 1, 0, 0, 0, 1, 0]
    assert there.tolist() == [True, True, True, False, False, False, True, False]


@pytest.mark.parametrize(
    ("flipped", "read"), [(0, [1, 1, True]), (100, [1, 1, True]), (40, [0, 0, False])]
)
def test_ambiguous_variants_are_of_the_strand_of_all_others_or_not_read(flipped, read):
    """Two copies of what the panel counts, written from either strand, counting either allele."""
    swap = str.maketrans("ACGT", "TGCA")
    ids = [f"rs{n}" for n in range(100)] + ["amb1", "amb2"]
    chromosomes, places = ["1"] * 102, np.arange(102)
    counted, other = ["A"] * 100 + ["T", "C"], ["G"] * 100 + ["A", "G"]
    panel = make_variants(ids, chromosomes, places, counted, other, "panel")
    strands = np.arange(100) < flipped
    whole = flipped == 100  # the ambiguous two too
    mine = [a.translate(swap) if s else a for a, s in zip(counted, [*strands, whole, whole],
                                                          strict=True)]  # fmt: skip
    theirs = [a.translate(swap) if s else a for a, s in zip(other, [*strands, whole, whole],
                                                            strict=True)]  # fmt: skip
    mine[-1], theirs[-1] = theirs[-1], mine[-1]  # the file counts the other allele of amb2
    file = make_variants(ids, chromosomes, places, mine, theirs, "file")
    found = align(file, panel)
    dosage = np.zeros(102, dtype=np.int8)
    dosage[-2:] = [2, 0]
    values, called = found.read(Genotypes(dosage, np.ones(102, dtype=bool), file))
    assert (values[-2:] // 2).tolist() == read[:2]
    assert called[-2:].tolist() == [read[2]] * 2
    assert found.doubtful[-2:].tolist() == [not read[2]] * 2
    assert called[:100].all()


def test_an_id_that_stands_twice_is_read_where_its_alleles_fit():
    panel = make_variants(["rs1"], ["1"], np.array([5]), ["A"], ["G"], "panel")
    file = make_variants(["rs1", "rs1"], ["1", "1"], np.array([5, 5]), ["A", "G"], ["C", "A"], "f")
    found = align(file, panel)
    assert (found.columns.tolist(), found.turned.tolist()) == ([1], [True])


def frequencies(rng, p, people):
    return rng.binomial(2 * people, p) / (2 * people), np.full(len(p), people)


def test_frequencies_tell_which_alleles_were_exchanged_without_a_trace():
    rng = np.random.default_rng(0)
    p = rng.uniform(0.05, 0.95, 2000)
    train, _ = frequencies(rng, p, 1000)
    found, calls = frequencies(rng, p, 200)
    clean = compare_frequencies(found, calls, train, 1000)
    assert len(clean.looks_turned) == 0
    assert not clean.all_turned
    assert 1000 < clean.telling < 2000
    some = np.arange(0, 2000, 20)
    mixed = found.copy()
    mixed[some] = 1 - mixed[some]
    partly = compare_frequencies(mixed, calls, train, 1000)
    assert set(partly.looks_turned) <= set(some)
    clear = some[np.abs(p[some] - 0.5) > 0.25]
    assert len(set(clear) - set(partly.looks_turned)) <= 0.05 * len(clear)
    assert not partly.all_turned
    whole = compare_frequencies(1 - found, calls, train, 1000)
    assert whole.all_turned
    assert len(whole.looks_turned) > 0.95 * whole.telling


def test_few_people_or_even_alleles_tell_nothing():
    rng = np.random.default_rng(0)
    train = rng.uniform(0.4, 0.6, 500)
    even = compare_frequencies(1 - train, np.full(500, 100), train, 1000)
    assert even.telling == 0
    assert not even.all_turned
    rare = np.full(500, 0.2)
    one = compare_frequencies(np.full(500, 1.0), np.ones(500, dtype=int), rare, 1000)
    assert not len(one.looks_turned)
    nobody = compare_frequencies(np.zeros(500), np.zeros(500, dtype=int), rare, 1000)
    assert nobody.telling == 0


def test_another_ancestry_is_not_taken_for_exchanged_alleles_as_a_whole():
    rng = np.random.default_rng(3)
    p = rng.uniform(0.1, 0.9, 1000)
    other = np.clip(p + rng.normal(0, 0.2, 1000), 0.02, 0.98)
    found, calls = frequencies(rng, other, 200)
    far = compare_frequencies(found, calls, p, 1000)
    assert not far.all_turned
    assert len(far.looks_turned) < 0.1 * far.telling
