"""Sums over sites equal pooled counts; other vocabularies are refused, joined or aligned."""

import shutil
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from small_counts import numbers, some_counts, tables, vocabularies

from medmcl.cooccurrence import Vocabulary, count_tokens
from medmcl.cooccurrence.exchange.folder import save_counts
from medmcl.cooccurrence.exchange.merging import merge
from medmcl.cooccurrence.release.release import release_threshold
from medmcl.core.errors import ArtefactError


def test_sum_of_folders_is_the_pooled_count_in_any_order(tmp_path):
    parts = [tables(seed) for seed in range(3)]
    words = vocabularies(6, 5)
    sites = [
        save_counts(count_tokens(*one, within=True, vocabularies=words), tmp_path / f"{k}")
        for k, one in enumerate(parts)
    ]
    pooled = count_tokens(
        *(np.vstack(x) for x in zip(*parts, strict=True)), within=True, vocabularies=words
    )
    for order in permutations(sites):
        assert numbers(merge(*order)) == numbers(pooled)


def test_notes_do_not_depend_on_the_order():
    a, b = (replace(some_counts(s), notes=(f"note {s}",)) for s in (2, 1))
    assert merge(a, b).notes == merge(b, a).notes == ("note 1", "note 2")


def test_another_version_of_a_vocabulary_is_refused_and_the_site_named(tmp_path):
    one = some_counts()
    words = one.vocabularies["codes"]
    other = replace(
        some_counts(1),
        vocabularies={**one.vocabularies, "codes": Vocabulary(words.tokens, "codes 2026")},
    )
    here, there = save_counts(one, tmp_path / "here"), save_counts(other, tmp_path / "there")
    with pytest.raises(
        ArtefactError, match=r"there, beside .*here: .*codes differ(.|\n)*codes 2026"
    ):
        merge(here, there)
    with pytest.raises(ArtefactError, match="different versions"):
        merge(here, there, align="union")


def test_one_site_twice_and_none_are_refused(tmp_path):
    site = save_counts(some_counts(), tmp_path / "a")
    with pytest.raises(ArtefactError, match="given twice"):
        merge(site, tmp_path / "x" / ".." / "a")
    copy = shutil.copytree(site, tmp_path / "b")
    other = save_counts(some_counts(seed=1), tmp_path / "c")
    with pytest.raises(ArtefactError, match=r"exactly the same counts(.|\n)*all of .*a"):
        merge(site, other, copy)
    with pytest.raises(ArtefactError, match="nothing to merge"):
        merge()


def test_suppressed_cells_are_not_added_as_zeros():
    sites = [release_threshold(some_counts(seed, n=300)).counts for seed in (0, 1)]
    with pytest.raises(ArtefactError, match="absent cell is no zero"):
        merge(*sites)


def test_noisy_and_exact_counts_are_not_added():
    exact = some_counts(within=False, patients=False)
    noisy = replace(some_counts(1, within=False, patients=False), noise_sd=3.0)
    for order in ((exact, noisy), (noisy, exact)):
        with pytest.raises(ArtefactError, match="noisy counts and exact ones"):
            merge(*order)


def test_a_union_says_that_codes_of_one_site_are_spelt_otherwise_at_another(caplog):
    parts = []
    for number, codes in enumerate((("ICD//I50.9", "ICD//I10"), ("ICD//I10", "ICD//i509"))):
        words = {"codes": Vocabulary(codes, "v"), "concepts": Vocabulary(tuple("abc"), "v")}
        x1, x2 = tables(number, n=30, d1=2, d2=3, rate=0.5)
        parts.append(count_tokens(x1, x2, vocabularies=words))
    assert len(merge(*parts, align="union").vocabularies["codes"]) == 3
    (said,) = caplog.messages
    assert "'ICD//i509' is 'ICD//I50.9'" in said


def test_a_union_of_full_vocabularies_equals_the_pooled_count():
    x1, x2 = tables(3, n=80, d1=7, d2=5, rate=0.3)
    codes = [f"c{i}" for i in range(7)]
    site = np.arange(80) < 40
    x1[site, 2] = 0  # nobody at the first site has c2
    x1[~site, 5] = 0
    parts = []
    for rows, gone in ((site, 2), (~site, 5)):
        kept = [k for k in (6, 5, 4, 3, 2, 1, 0) if k != gone]  # and in another order
        words = {
            "codes": Vocabulary(tuple(codes[k] for k in kept), "v"),
            "concepts": Vocabulary(tuple("abcde"), "v"),
        }
        parts.append(count_tokens(x1[rows][:, kept], x2[rows], within=True, vocabularies=words))
    words = {"codes": Vocabulary(tuple(codes), "v"), "concepts": Vocabulary(tuple("abcde"), "v")}
    pooled = count_tokens(x1, x2, within=True, vocabularies=words)
    with pytest.raises(ArtefactError, match="codes differ"):
        merge(*parts)
    assert numbers(merge(*parts, align="union")) == numbers(pooled)
    assert numbers(merge(*parts[::-1], align="union")) == numbers(pooled)


def test_patients_who_were_counted_otherwise_are_not_added_twice(tmp_path):
    """Ten patients of a cell, counted twice, would pass a threshold of eleven."""
    x = tables(0)
    one = save_counts(count_tokens(*x, vocabularies=vocabularies(6, 5)), tmp_path / "one")
    most = tuple(part[:50] for part in x)
    again = save_counts(count_tokens(*most, vocabularies=vocabularies(6, 5)), tmp_path / "again")
    with pytest.raises(ArtefactError, match=r"patients would be added twice(.|\n)*got: +5\d patie"):
        merge(one, again)
    other = save_counts(count_tokens(*tables(1), vocabularies=vocabularies(6, 5)), tmp_path / "o")
    assert merge(one, other).sites == 2
