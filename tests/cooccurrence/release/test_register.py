"""What was released before is known again: each attack here gave patients or sites away before."""

import json
import shutil
from dataclasses import replace
from itertools import product
from multiprocessing import get_context
from unittest.mock import Mock, patch

import numpy as np
import pandas as pd
import pytest
from killed import forked
from small_counts import tables, vocabularies

from medmcl.cooccurrence import count_tokens
from medmcl.cooccurrence.count.counts import Vocabulary
from medmcl.cooccurrence.count.people import (
    People,
    people_of_rows,
    people_of_subjects,
    register_key,
    shared_patients,
)
from medmcl.cooccurrence.count.tokens import whole
from medmcl.cooccurrence.exchange.folder import load_counts, read_manifest, save_counts
from medmcl.cooccurrence.exchange.merging import merge
from medmcl.cooccurrence.release import differences
from medmcl.cooccurrence.release.accounting import rho_for
from medmcl.cooccurrence.release.ledger import Ledger
from medmcl.cooccurrence.release.private import release_private
from medmcl.cooccurrence.release.register import Register
from medmcl.cooccurrence.release.release import Release, release_threshold
from medmcl.cooccurrence.release.shares import enter_share
from medmcl.core.errors import ArtefactError
from medmcl.core.writing import DiskError
from medmcl.data.events.write import number_of
from medmcl.stages.cooccur.release import release_folders, release_rows

D = (20, 20)
ISOLATED = "show one site by itself"
OTHER_CODES = r"released under other codes(.|\n)*--allow-nested"
OTHER_BUDGET = "have a privacy budget already"


def site_tables(seed, n=150):
    return tables(seed, n=n, d1=D[0], d2=D[1], rate=0.7)


def joined(n=40, but=0, seed=9, mask=1):
    """Patients of the first site (but those who left), with n others after them, and the others."""
    more = tuple(x * mask for x in site_tables(seed, n))
    both = zip(site_tables(0), more, strict=True)
    return tuple(np.concatenate([one[but:], other]) for one, other in both), more


def counted(x):
    return count_tokens(*x, vocabularies=vocabularies(*D))


@pytest.fixture
def sites(tmp_path):
    """Five hospitals of like size."""
    return {
        name: save_counts(counted(site_tables(seed)), tmp_path / name)
        for seed, name in enumerate("ABCDE")
    }


def release(sites, names, out, **settings):
    return release_folders([sites[name] for name in names], out, **settings)


def test_cells_that_a_release_made_meanwhile_tells_are_found_at_the_end(sites, tmp_path):
    grown = counted(joined()[0])
    late = release_threshold(grown)
    release(sites, "A", tmp_path / "a")
    with pytest.raises(ArtefactError, match=r"made meanwhile(.|\n)*make this one anew"):
        late.save(tmp_path / "late")
    release_threshold(grown).save(tmp_path / "late")


CHAINS = [
    (["ABC"], "AB"),  # the difference is C
    (["AB", "BC"], "AC"),  # half of the first and third less the second
    (["ABCDE", "AB"], "CD"),  # all less both is E
    (["ABC", "DE"], "ABCD"),
    (["A", "ABC"], "BCD"),
]


@pytest.mark.parametrize(("before", "last"), CHAINS, ids=[f"{b}-{c}" for b, c in CHAINS])
def test_a_site_is_not_read_off_the_difference_of_sums(sites, tmp_path, before, last):
    for names in before:
        release(sites, names, tmp_path / f"release-{names}")
    with pytest.raises(ArtefactError, match=ISOLATED):
        release(sites, last, tmp_path / "last")
    assert not (tmp_path / "last").exists()


@pytest.mark.parametrize("names", [["ABC", "DE"], ["AB", "BC", "CD", "AD"]])
def test_other_sites_and_an_even_ring_of_pairs_give_no_site_away(sites, tmp_path, names):
    for each in names:
        release(sites, each, tmp_path / f"release-{each}")


@pytest.mark.parametrize("how", ["copied", "summed", "by another register", "recounted"])
def test_released_counts_are_known_again(how, sites, tmp_path, monkeypatch):
    """Whatever they are called; recounted without some of A, C would be left but for those.

    The folders of counts remember too, in the copies as well, so that another register knows.
    """
    release(sites, "ABC", tmp_path / "abc")
    again = [shutil.copytree(sites[name], tmp_path / f"other-{name}") for name in "AB"]
    if how == "summed":
        again = [save_counts(merge(*again), tmp_path / "sum")]
    elif how == "by another register":
        monkeypatch.setenv("MEDMCL_REGISTER", str(tmp_path / "another"))
        again[1] = sites["B"]
    elif how == "recounted":
        most = tuple(x[:130] for x in site_tables(0))
        again = [save_counts(counted(most), tmp_path / "again"), sites["B"]]
    with pytest.raises(ArtefactError, match=ISOLATED):
        release_folders(again, tmp_path / "ab")


@pytest.mark.parametrize("few", [5, 13])
def test_few_patients_are_not_read_off_two_counts_of_one_site(few, sites, tmp_path):
    """Five who left, or 13 who came: 11 of 13 in a cell are more than a share of 0.8."""
    release(sites, "A", tmp_path / "all")
    other = counted(joined(0, but=5)[0] if few == 5 else joined(few)[0])
    with pytest.raises(ArtefactError, match=rf"show few patients(.|\n)*groups of {few} patients"):
        release_threshold(other)
    if few == 13:
        with pytest.raises(ArtefactError, match="no cell has enough patients"):
            release_threshold(other, largest_share=0.85)  # few have any pair


@pytest.mark.parametrize(
    ("before", "last", "share"),
    [((300, 13), 13, 0.8), ((13,), 13, 0.8), ((300,), 300, 0.007), ((25,), 13, 0.8)],
    ids=["a ward", "thirteen", "a strict share", "half"],
)
def test_where_all_groups_are_few_one_patient_is_not_read_off_either(before, last, share, tmp_path):
    """The cells that the patient has were absent, and no others."""
    words = vocabularies(4, 4)
    names = [f"P{k}" for k in range(300)]
    x = [(np.random.default_rng(k).random((300, 4)) < 0.97).astype(int) for k in range(2)]
    x[0][0] = (0, 1, 0, 1)

    def of(first, end):
        rows = slice(first, end)
        return count_tokens(
            *(one[rows] for one in x), vocabularies=words, subjects=names[rows], names=tuple(words)
        )

    for n in before:
        release_threshold(of(0, n)).save(tmp_path / f"of {n}")
    alone = release_threshold(
        of(1, last), largest_share=share, register=Register(tmp_path / "another")
    )
    assert alone.counts.D.nnz > 8
    with pytest.raises(ArtefactError, match=r"show few patients(.|\n)*groups of 1"):
        release_threshold(of(1, last), largest_share=share)
    release_threshold(of(0, before[-1])).save(tmp_path / "again")  # the very same are allowed


@pytest.mark.parametrize("how", ["plain", "turned", "renamed", "three left", "nothing"])
def test_cells_of_few_patients_are_left_out_of_a_later_release(how, sites, tmp_path):
    """Forty patients come, and of no cell is it told what fewer than eleven of them have.

    Nor if the modalities are called otherwise or counted the other way, or three have left; that
    none of the forty has a pair was read off equal cells.
    """
    before = release_threshold(load_counts(sites["A"]))
    before.save(tmp_path / "before")
    left, mask = 3 * (how == "three left"), np.arange(D[0]) % 2 if how == "nothing" else 1
    x, more = joined(but=left, mask=mask)
    words = vocabularies(*D)
    if how == "turned":
        x, words = x[::-1], dict(reversed(words.items()))
    elif how == "renamed":
        words = {f"other {name}": one for name, one in words.items()}
    after = release_threshold(count_tokens(*x, names=tuple(words), vocabularies=words))
    one, two = (next(iter(r.counts.blocks.values())).pairs.toarray() for r in (before, after))
    new = counted(more)
    few = new.cross().patients.toarray() < 11 - left
    if how != "nothing":
        few &= new.D.toarray() > 0
        assert ((one > 0) & few).sum() > 50
    shown = (one > 0) & ((two.T if how == "turned" else two) > 0)
    assert shown.sum() > 20
    assert not (shown & few).any()


def test_many_earlier_releases_do_not_end_the_look_at_cells(tmp_path):
    """Eight of them, and E + F was read off in 314 cells, 202 of them of few patients."""
    made = {name: site_tables(k, 60) for k, name in enumerate("ABCDG")}
    made |= {name: tables(k, n=30, d1=20, d2=20) for k, name in ((20, "E"), (21, "F"))}
    sites = {name: save_counts(counted(x), tmp_path / name) for name, x in made.items()}
    for names in ("A", "B", "C", "D", "G", "AG", "BG", "CG"):
        release(sites, names, tmp_path / f"release-{names}", largest_share=1)
    release(sites, "ABCDEF", tmp_path / "last", largest_share=1)  # else E or F may be most of it
    last, *others = (load_counts(tmp_path / name).D.toarray() > 0
                     for name in ("last", *(f"release-{one}" for one in "ABCD")))  # fmt: skip
    shown = last & np.all(others, axis=0)
    assert shown.sum() > 10
    few = merge(sites["E"], sites["F"]).cross().patients.toarray() < 11
    assert not (shown & few).any()


def test_too_many_combinations_are_refused_and_said(sites, tmp_path, monkeypatch):
    for name in "ABC":
        release(sites, name, tmp_path / f"release-{name}")
    monkeypatch.setattr(differences, "MOST_COMBINATIONS", 8)
    with pytest.raises(ArtefactError, match=r"too many combinations(.|\n)*more than 8"):
        release(sites, "ABCDE", tmp_path / "all")


def test_all_combinations_are_sums_of_those_that_are_looked_at():
    """None of the factors -1, 0, 1 that takes no group away tells of fewer patients."""
    generator = np.random.default_rng(0)
    for _ in range(20):
        rows = generator.integers(0, 2, (5, 6))
        rows[:, rows.sum(axis=0) == 0] = 1
        patients = rows @ generator.integers(0, 30, (6, 40))
        factors = np.array([(1, *one) for one in product((0, 1, -1), repeat=4) if any(one)])

        def fewest(factors, rows=rows, patients=patients):
            groups = factors @ rows
            kept = (groups >= 0).all(axis=1) & groups.any(axis=1)
            found = factors[kept] @ patients / groups[kept].max(axis=1)[:, None]
            return found.min(axis=0, initial=99)

        mine = differences._combinations(rows, [])
        assert (mine @ rows >= 0).all()
        assert (fewest(mine) <= np.minimum(fewest(factors), fewest(-factors))).all()


def test_a_lower_threshold_is_the_sites_right_and_is_said(sites, tmp_path):
    release(sites, "A", tmp_path / "eleven")
    assert read_manifest(tmp_path / "eleven").release.earlier_min_patients is None
    told = release(sites, "A", tmp_path / "five", min_patients=5)
    keys = read_manifest(tmp_path / "five").release
    assert keys.earlier_min_patients == 11
    assert keys.warnings[-1].startswith("Some of these patients were released before by a thresh")
    assert keys.warnings[-1] in told["warnings"]
    release(sites, "A", tmp_path / "again")
    assert read_manifest(tmp_path / "again").release.earlier_min_patients is None


def levels(n=150, subjects=0, *, rolled=False, both=False, first="codes"):
    """The same patients by code, or by group of four codes; the vocabulary may list both."""
    x, concepts = (one[:n] for one in site_tables(0, 300))
    names = [f"CODE//{k}" for k in range(D[0])]
    if rolled:
        x = x.reshape(n, 5, 4).sum(axis=2)
        names = [f"FAM//{k}" for k in range(5)]
    if both:
        other = range(D[0]) if rolled else range(5)
        names = [*names, *(f"{'CODE' if rolled else 'FAM'}//{k}" for k in other)]
        x = np.pad(x, ((0, 0), (0, len(other))))
    order = np.argsort(names)
    words = {first: Vocabulary(tuple(np.array(names, dtype=object)[order]), "v")}
    words["concepts"] = Vocabulary(tuple(f"CUI//{k}" for k in range(D[1])), "v")
    counts = count_tokens(x[:, order], concepts, names=tuple(words), vocabularies=words)
    people = people_of_subjects([str(k) for k in range(subjects, subjects + n)])
    return replace(counts, provenance=replace(counts.provenance, people=people))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"rolled": True}),
        ({"rolled": True}, {}),
        ({}, {"rolled": True, "first": "groups"}),
        ({"both": True}, {"rolled": True, "both": True}),
        ({"rolled": True}, {"both": True}),
        ({}, {"rolled": True, "n": 190}),
    ],
    ids=["fine first", "coarse first", "renamed", "one list of both", "a longer list", "more"],
)
def test_a_roll_up_does_not_give_suppressed_codes_of_another_release_away(before, after, tmp_path):
    """A group of codes less those of its codes that are shown was the one that is not."""
    settings = {"public_vocabulary": True, "min_patients": 20, "largest_share": 1}
    late = release_threshold(levels(**after), **settings)
    release_threshold(levels(**before), **settings).save(tmp_path / "before")
    with pytest.raises(ArtefactError, match=OTHER_CODES):
        release_threshold(levels(**after), **settings)
    with pytest.raises(ArtefactError, match=OTHER_CODES):
        late.save(tmp_path / "late")  # made before the other was saved
    assert not (tmp_path / "late").exists()
    allowed = release_threshold(levels(**after), allow_nested=True, **settings)
    allowed.save(tmp_path / "allowed")
    for one in (before, after):  # each again tells nothing new
        release_threshold(levels(**one), **settings).save(tmp_path / f"again-{one is after}")


@pytest.mark.parametrize(
    "after",
    [{}, {"n": 190}, {"both": True}, {"first": "dx"}, {"rolled": True, "subjects": 1000}],
    ids=["the same", "more patients", "a longer list", "renamed", "others, by group"],
)
def test_the_same_codes_or_other_patients_are_no_roll_up(after, tmp_path):
    settings = {"public_vocabulary": True, "min_patients": 20, "largest_share": 1}
    release_threshold(levels(), **settings).save(tmp_path / "before")
    release_threshold(levels(**after), **settings).save(tmp_path / "after")


def test_a_release_that_is_killed_was_made(sites, tmp_path, register):
    """Whatever is written when: nothing stands at --out that the register does not know."""
    out = tmp_path / "abc"

    def run():
        release(sites, "ABC", out)

    at, status = 0, -9
    while status == -9:
        at += 1
        shutil.rmtree(register, ignore_errors=True)
        shutil.rmtree(out, ignore_errors=True)
        for name in "ABC":
            shutil.rmtree(sites[name] / "released", ignore_errors=True)
        status, _ = forked(run, tmp_path.parent.parent, at=at)
        if (out / "manifest.json").exists():
            assert len(Register.here().past()) == 1
        if at % 9 == 0 and status == -9:
            release(sites, "ABC", out)  # and the same command goes on
    assert status == 0
    assert at > 20


def test_a_register_that_was_cut_or_edited_is_refused(sites, tmp_path, register):
    release(sites, "ABC", tmp_path / "abc")
    (entry,) = (register / "releases").iterdir()
    whole = (register / "register.json").read_text()
    for harm, said in (
        (lambda: (register / "register.json").unlink(), "is missing, and releases were made"),
        (
            lambda: (register / "register.json").write_text(
                json.dumps({**json.loads(whole), "releases": []})
            ),
            "its seal is another",
        ),
        (lambda: entry.rename(tmp_path / "hidden"), "is missing, or was changed"),
    ):
        harm()
        with pytest.raises(ArtefactError, match=said):
            release(sites, "AB", tmp_path / "ab")
        (register / "register.json").write_text(whole)
    (register / "key").write_text("00")
    with pytest.raises(ArtefactError, match="no whole key"):
        release(sites, "AB", tmp_path / "ab")


def test_a_list_that_was_lost_or_set_back_hides_no_release_share_or_budget(
    sites, ledger, other, tmp_path, register
):
    file = register / "register.json"
    release_threshold(merge(sites["D"], sites["E"])).save(tmp_path / "de")
    earlier = file.read_text()
    release_threshold(merge(*(sites[name] for name in "ABC"))).save(tmp_path / "abc")
    with Register.here().alone():
        Register.here().enter_share(load_counts(sites["A"]), "Ayr")
    file.write_text(earlier)
    with pytest.raises(ArtefactError, match=ISOLATED):
        release_threshold(merge(sites["A"], sites["B"]))
    assert [one.notes for one in Register.here().shares()] == [("Ayr",)]
    enter_share(Register.here(), load_counts(sites["A"]), "Ayr")  # as it is when typed again
    assert len(Register.here().read().shares) == 1
    shutil.rmtree(register)
    private(ledger, site_tables(0))
    file.unlink()
    with pytest.raises(ArtefactError, match="is missing, and budgets were charged"):
        private(other, site_tables(0))


def test_a_register_holds_nothing_that_was_suppressed(sites, tmp_path):
    release(sites, "A", tmp_path / "a", min_patients=40)
    (past,) = Register.here().past()
    assert past.counts.cross().patients.data.min() >= 40
    assert past.counts.D.nnz < load_counts(sites["A"]).D.nnz
    assert (past.counts.units, past.counts.patients) == (0, 0)


def test_no_release_carries_tags(sites, tmp_path):
    release(sites, "ABC", tmp_path / "abc")
    names = {path.name for path in (tmp_path / "abc").iterdir()}
    assert names == {"manifest.json", "vocabulary.parquet", "cells_0_1.parquet"}
    assert read_manifest(tmp_path / "abc").people is None
    made = release_threshold(merge(*(sites[name] for name in "ABC")))
    assert not made.counts.provenance.people


def private(ledger, x, **changes):
    settings = {"vocabularies": vocabularies(*D), "clip": (3, 3), "epsilon": 1, "delta": 1e-6}
    return release_private(*x, ledger=ledger, **settings | changes)


@pytest.fixture
def ledger(tmp_path):
    return Ledger.start(tmp_path / "ledger.json", epsilon=2, delta=1e-6)


@pytest.fixture
def other(tmp_path):
    """A second budget."""
    return Ledger.start(tmp_path / "fresh.json", epsilon=2, delta=1e-6)


def names(number, prefix="patient"):
    return [f"{prefix} {k}" for k in range(number)]


FRESH = {
    "numbered": lambda x: (x, range(len(x[0]))),
    "the same rows": lambda x: (x, None),
    "in another order": lambda x: (tuple(one[::-1] for one in x), None),
    "some left out": lambda x: (tuple(one[40:] for one in x), None),
    "some more": lambda x: (tuple(np.r_[one, one[:30]] for one in x), None),
    "renamed": lambda x: (x, names(len(x[0]), "somebody")),
    "with other counts": lambda x: (tuple(one + 1 for one in x), names(len(x[0]))),
    "one of them": lambda x: (tuple(one[:1] for one in x), names(1)),
}


@pytest.mark.parametrize("how", list(FRESH))
def test_a_fresh_ledger_for_the_same_patients_is_refused(ledger, other, how):
    x = site_tables(0)
    private(ledger, x, patients=names(len(x[0])))
    rows, patients = FRESH[how](x)
    with pytest.raises(ArtefactError, match=OTHER_BUDGET):
        private(other, rows, patients=patients)
    assert not other.read().releases
    ledger.path.unlink()  # nor does it help to lose the first
    with pytest.raises(ArtefactError, match=OTHER_BUDGET):
        private(other, rows, patients=patients)
    private(other, site_tables(1), patients=names(150, "other"))  # other people


def test_a_threshold_release_of_patients_with_a_budget_is_refused_or_said(ledger, sites, tmp_path):
    """What epsilon promises does not hold against who has the exact cells too."""
    private(ledger, site_tables(0), patients=names(150))
    late = release_threshold(load_counts(sites["B"]))
    private(ledger, site_tables(1), patients=names(150, "other"))
    for make in (
        lambda: release(sites, "AC", tmp_path / "out"),
        lambda: late.save(tmp_path / "out"),  # made before the noisy one
    ):
        with pytest.raises(ArtefactError, match=r"noisy releases(.|\n)*--beside-private"):
            make()
    assert not (tmp_path / "out").exists()
    release(sites, "C", tmp_path / "c")  # others
    told = release(sites, "A", tmp_path / "a", beside_private=True)
    keys = read_manifest(tmp_path / "a").release
    assert keys.beside_private
    assert any("what their epsilon promises does not hold" in one for one in told["warnings"])
    assert not read_manifest(tmp_path / "c").release.beside_private


NAMES = {
    "text": [f"P{k:03d}" for k in range(150)],
    "with zeros before": [f"{k:03d}" for k in range(150)],
    "numbers": [k * 7 + 5 for k in range(150)],
    "row numbers": list(range(150)),
    "as floats": [k * 7.0 for k in range(150)],
    "of both kinds": [*range(75), *(f"P{k}" for k in range(75))],
    "of 19 digits": [str(10**18 + k) for k in range(150)],
}


@pytest.mark.parametrize("how", NAMES)
def test_rows_and_counts_name_a_patient_alike(how, ledger, other):
    """A budget for own rows was not seen beside counts, which have numbers in place of text."""
    x = site_tables(0)
    private(ledger, x, patients=NAMES[how])
    numbers = [number_of(str(one)) for one in NAMES[how]]
    for subjects in (NAMES[how], numbers):
        counts = count_tokens(*x, vocabularies=vocabularies(*D), subjects=subjects)
        with pytest.raises(ArtefactError, match=r"got: +150 patients(.|\n)*--beside-private"):
            release_threshold(counts)
    changed = [one.copy() for one in x]
    changed[0][:] += 1
    with pytest.raises(ArtefactError, match=OTHER_BUDGET):
        private(other, changed, patients=numbers)
    private(other, site_tables(1), patients=names(150, "other"))


def test_an_earlier_register_is_refused_by_name_with_the_way_out(sites, tmp_path, register):
    """Told to write @2 in place of @1, whoever did was told that the seal is another."""
    release(sites, "A", tmp_path / "a")
    file = register / "register.json"
    for schema in ("medmcl/release-register@1", "medmcl/release-register@2"):
        file.write_text(json.dumps({**json.loads(file.read_text()), "schema": schema}))
        with pytest.raises(ArtefactError, match=r"earlier medmcl(.|\n)*but key and rounds") as told:
            release(sites, "A", tmp_path / "again")
        assert "did you mean" not in str(told.value)
    for one in register.iterdir():  # what it says
        if one.name not in ("key", "rounds"):
            one.rename(tmp_path / one.name)
    release(sites, "A", tmp_path / "again")
    with pytest.raises(ArtefactError, match="show few patients"):
        release_threshold(counted(tuple(x[5:] for x in site_tables(0))))


def test_a_release_that_the_disk_did_not_take_is_ended_when_typed_again(sites, tmp_path):
    """It is in the register, and stands in the way of nothing but other counts."""
    save = Release.save.__globals__["save_counts"]
    with (
        patch.dict(Release.save.__globals__, save_counts=Mock(side_effect=[DiskError("full")])),
        pytest.raises(DiskError),
    ):
        release(sites, "ABC", tmp_path / "abc")
    assert not (tmp_path / "abc").exists()
    assert len(Register.here().past()) == 1
    assert Release.save.__globals__["save_counts"] is save
    release(sites, "ABC", tmp_path / "abc")
    whole = (tmp_path / "abc" / "manifest.json").read_bytes()
    release(sites, "ABC", tmp_path / "again")
    assert (tmp_path / "again" / "manifest.json").read_bytes() == whole
    assert len(Register.here().past()) == 1


def test_records_too_like_one_another_to_tell_have_no_second_budget(ledger, other):
    """Sixty patients over two codes and two concepts, renamed and one left out, had another."""
    x = tuple((np.random.default_rng(k).random((60, 2)) < 0.5).astype(int) for k in (1, 2))
    words = vocabularies(2, 2)
    private(ledger, x, patients=names(60), vocabularies=words)
    for rows in (x, tuple(one[1:] for one in x), tuple(one[::-1] for one in x)):
        with pytest.raises(ArtefactError, match=f"cannot be told|{OTHER_BUDGET}"):
            private(other, rows, patients=names(len(rows[0]), "somebody"), vocabularies=words)
    others = tuple((np.random.default_rng(k).random((60, 2)) < 0.3).astype(int) for k in (3, 4))
    private(other, others, patients=names(60, "elsewhere"), vocabularies=words)


@pytest.mark.parametrize("gone", [0, 7])
def test_rows_of_numbered_patients_are_known_again(ledger, other, tmp_path, gone):
    """Row numbers for names, and few codes: of whom somebody says that they are other people, names
    and records together tell."""
    x = tuple(np.random.default_rng(seed).poisson(0.6, (200, 3)) for seed in (1, 2))
    words = vocabularies(3, 3)
    private(ledger, x, patients=range(200), vocabularies=words)
    elsewhere = replace(other, other_people=True)
    rows = tuple(one[gone:] for one in x)
    for one in (other, elsewhere):
        with pytest.raises(ArtefactError, match=OTHER_BUDGET):
            private(one, rows, patients=range(gone, 200), vocabularies=words)
    else_ = tuple(np.random.default_rng(seed).poisson(0.6, (200, 3)) for seed in (3, 4))
    for rows in (else_, tuple(one + 1 for one in x)):  # most records changed, or others
        with pytest.raises(ArtefactError, match=rf"{OTHER_BUDGET}(.|\n)*--other-people"):
            private(other, rows, patients=range(200), vocabularies=words)
    assert not other.read().releases
    private(elsewhere, else_, patients=range(200), vocabularies=words)  # another hospital's numbers
    assert "because somebody said so" in other.read().releases[0].what
    for one in (ledger, other):  # nobody need say it again, on either side
        private(one, x if one is ledger else else_, patients=range(200), vocabularies=words)
    third = Ledger.start(tmp_path / "third.json", epsilon=2, delta=1e-6)
    for one in (third, other):  # what was said was said of other rows
        with pytest.raises(ArtefactError, match=OTHER_BUDGET):
            private(one, tuple(one + 1 for one in x), patients=range(200), vocabularies=words)


@pytest.mark.parametrize(
    ("plain", "spelt"),
    [("{}", "{:06d}"), ("{}", "+{}"), ("p{}", "P 0{}"), ("p{}", "\uff30{}"), ("{}", " {}.0")],
)
def test_names_written_otherwise_beside_other_records_get_no_second_budget(
    plain, spelt, ledger, other
):
    x, people = site_tables(0), range(100, 250)
    private(ledger, x, patients=[plain.format(k) for k in people])
    with pytest.raises(ArtefactError, match=OTHER_BUDGET):
        private(other, tuple(one + 1 for one in x), patients=[spelt.format(k) for k in people])


def test_a_ledger_by_a_link_is_that_ledger(ledger, tmp_path):
    link, later, target = (tmp_path / name for name in ("link.json", "later.json", "t.json"))
    link.symlink_to(ledger.path)
    later.symlink_to(target)
    private(Ledger(link), site_tables(0))
    assert link.is_symlink()
    assert len(ledger.read().releases) == 1
    Ledger.start(later, epsilon=2, delta=1e-6)
    with pytest.raises(ArtefactError, match="there is a budget already"):
        Ledger.start(target, epsilon=2, delta=1e-6)


def test_a_ledger_set_back_cut_or_edited_is_refused(ledger):
    x = site_tables(0)
    fresh = ledger.path.read_text()
    private(ledger, x, epsilon=0.5)
    once = ledger.path.read_text()
    private(ledger, x, epsilon=0.5)
    twice = json.loads(ledger.path.read_text())
    for text in (
        fresh,
        once,
        json.dumps({**twice, "releases": twice["releases"][1:]}),
        json.dumps({**twice, "epsilon": 9}),
        json.dumps({**twice, "releases": [{**one, "rho": 1e-9} for one in twice["releases"]]}),
    ):
        ledger.path.write_text(text)
        with pytest.raises(ArtefactError, match=r"older copy|its checksum is another"):
            private(ledger, x, epsilon=0.1)
    ledger.path.write_text(json.dumps(twice))
    ledger = Ledger(ledger.path.rename(ledger.path.with_name("moved.json")))  # that is allowed
    private(ledger, x, epsilon=0.1)
    anonymous = json.loads(fresh) | {"id": None, "checksum": None}
    ledger.path.write_text(json.dumps(anonymous))  # as older versions wrote them
    with pytest.raises(ArtefactError, match=OTHER_BUDGET):
        private(ledger, x, epsilon=0.1)


def test_a_charge_that_was_killed_stands(ledger, tmp_path, register):
    """At every write: what was entered is spent, and no noise was drawn that is not."""
    x, drawn = site_tables(0), tmp_path / "drawn"
    fresh = ledger.path.read_text()

    def run():
        private(ledger, x)
        drawn.touch()

    at, status, healed = 0, -9, 0
    while status == -9:
        at += 1
        shutil.rmtree(register, ignore_errors=True)
        ledger.path.write_text(fresh)
        status, _ = forked(run, tmp_path.parent.parent, at=at)
        if status:
            written = len(ledger.read().releases)
            budget = Register.here().budget(json.loads(fresh)["id"])
            entered = len(budget.values["releases"]) if budget else 0
            assert written <= entered
            private(ledger, x, epsilon=0.1)
            assert len(ledger.read().releases) == entered + 1
            healed += written < entered
    assert status == 0
    assert healed


def spend(path, register, times):
    """Charge a ledger as often as it goes, from a process of its own."""
    import os

    os.environ["MEDMCL_REGISTER"] = register
    done = 0
    for _ in range(times):
        try:
            Ledger(path).charge("race", rho_for(0.5, 1e-6), people_of_subjects(["a", "b"]))
            done += 1
        except ArtefactError as error:
            assert "being charged" in str(error) or "does not cover" in str(error)  # noqa: PT017 - not each time
            if "does not cover" in str(error):
                break
    return done


def test_processes_that_race_do_not_overspend(ledger, tmp_path, register):
    copies = [ledger.path, tmp_path / "copy.json"]  # the copy is behind at once, and refused
    with get_context("fork").Pool(3) as pool:
        jobs = [(copies[0], str(register), 400)] * 3
        done = sum(pool.starmap(spend, jobs))
    assert done == len(ledger.read().releases)
    assert ledger.spent().epsilon <= 2
    with pytest.raises(ArtefactError, match="does not cover"):
        ledger.charge("one more", rho_for(0.5, 1e-6))


def test_tags_need_the_key_and_tell_no_name(register):
    (one,) = people_of_subjects(["Ann", "Bob"])
    assert one.patients == len(one.tags) == 2
    assert shared_patients(one, people_of_subjects(["Bob", "Cyd"])[0]) == 1
    assert oct((register / "key").stat().st_mode)[-3:] == "600"
    (register / "key").unlink()
    assert len(register_key(register)) == 32
    assert shared_patients(one, people_of_subjects(["Ann", "Bob"])[0]) == 0  # another key
    assert shared_patients(one, People(one.site, 2)) == 2


def test_records_that_many_people_have_are_no_sign(register):
    """Two tables of other people, of whom most have nothing, or one common thing."""
    words = {"codes": ("a", "b"), "concepts": ("x",)}
    generator = np.random.default_rng(0)
    found = []
    for _ in range(2):
        x = [whole((generator.random((200, d)) < 0.5).astype(int), "codes") for d in (2, 1)]
        found.append(people_of_rows(x, words, range(200))[0])
    assert len(np.intersect1d(found[0].tags, found[1].tags)) > 4
    assert shared_patients(*found) == 0
    x = [np.random.default_rng(seed).poisson(0.6, (1000, 5)) for seed in (1, 2)]
    sites = [count_tokens(one[:, :3], one[:, 3:], vocabularies=vocabularies(3, 2)) for one in x]
    one, other = (site.provenance.people[0] for site in sites)
    assert np.isin(one.tags, other.tags).mean() > 0.5
    assert shared_patients(one, other) == 0


def test_a_machine_without_a_register_counts_and_says_so(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").touch()
    monkeypatch.setenv("MEDMCL_REGISTER", str(tmp_path / "file" / "register"))
    counts = counted(site_tables(0))
    assert not counts.provenance.people
    assert "patients get no tags" in caplog.text
    with pytest.raises(ArtefactError, match="MEDMCL_REGISTER=FOLDER"):
        release_threshold(counts).save(tmp_path / "out")


@pytest.fixture
def no_site(tmp_path, monkeypatch):
    """Nobody names a register: what is released is remembered beside it."""
    monkeypatch.delenv("MEDMCL_REGISTER")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path.parent / f"{tmp_path.name}-state"))


@pytest.mark.usefixtures("no_site")
def test_beside_the_counts_it_is_remembered_what_was_released_of_them(sites, tmp_path):
    release(sites, "ABC", tmp_path / "abc")
    assert (tmp_path / ".medmcl-register" / "register.json").is_file()
    with pytest.raises(ArtefactError, match=ISOLATED):
        release(sites, "AB", tmp_path / "ab")
    copies = [shutil.copytree(sites[name], tmp_path / "else" / f"other-{name}") for name in "AB"]
    with pytest.raises(ArtefactError, match=ISOLATED):
        release_folders(copies, tmp_path / "else" / "ab")
    moved = shutil.copytree(tmp_path, tmp_path.parent / f"{tmp_path.name}-moved")
    with pytest.raises(ArtefactError, match=ISOLATED):
        release_folders([moved / "A", moved / "B"], moved / "ab")


@pytest.mark.usefixtures("no_site")
def test_counts_in_memory_are_looked_at_beside_their_release(sites, tmp_path):
    release_threshold(merge(*(sites[name] for name in "ABC"))).save(tmp_path / "abc")
    two = release_threshold(merge(*(sites[name] for name in "AB")))
    with pytest.raises(ArtefactError, match=ISOLATED):
        two.save(tmp_path / "ab")
    assert not (tmp_path / "ab").exists()


@pytest.mark.usefixtures("no_site")
def test_a_fresh_ledger_beside_another_is_refused_and_one_elsewhere_is_not_seen(
    ledger, other, tmp_path
):
    """Who wants it seen everywhere names a register for the site."""
    x = site_tables(0)
    private(ledger, x, patients=names(len(x[0])))
    with pytest.raises(ArtefactError, match=OTHER_BUDGET):
        private(other, x, patients=names(len(x[0])))
    elsewhere = Ledger.start(tmp_path / "trial" / "ledger.json", epsilon=2, delta=1e-6)
    private(elsewhere, x, patients=names(len(x[0])))


@pytest.mark.usefixtures("no_site")
@pytest.mark.parametrize("how", ["fresh", "copied before", "copied after"])
def test_a_second_ledger_for_the_same_rows_is_refused_wherever_it_lies(how, tmp_path):
    """Beside the rows it is remembered too: two ledgers in two folders were two budgets."""
    rows = [(f"p{k}", name, f"{name}:{j}", int(n))
            for name, x in zip(("codes", "concepts"), site_tables(0), strict=True)
            for k, j in zip(*np.nonzero(x), strict=True) for n in [x[k, j]]]  # fmt: skip
    table = pd.DataFrame(rows, columns=["subject", "modality", "code", "count"])
    (tmp_path / "data").mkdir()
    table.to_csv(tmp_path / "data" / "rows.csv", index=False)
    listed = [(name, f"{name}:{k}", "v") for name in ("codes", "concepts") for k in range(20)]
    vocabulary = pd.DataFrame(listed, columns=["modality", "code", "version"])
    vocabulary.to_csv(tmp_path / "public.csv", index=False)

    def run(ledger, out):
        return release_rows(
            tmp_path / "data" / "rows.csv", tmp_path / "public.csv", tmp_path / out,
            clip={"codes": 3, "concepts": 3}, epsilon=1, delta=1e-6, ledger=ledger,
        )  # fmt: skip

    one = Ledger.start(tmp_path / "a" / "l.json", epsilon=2, delta=1e-6).path
    other = tmp_path / "b" / "l.json"
    if how == "fresh":
        Ledger.start(other, epsilon=2, delta=1e-6)
    else:
        other.parent.mkdir()
        shutil.copy(one, other)
    assert "no register of the site is named" in run(one, "one")["warnings"][-1]
    if how == "copied after":
        shutil.copy(one, other)
        run(other, "two")  # what was spent stands in it; now the first one is behind
        one, other = other, one
    with pytest.raises(ArtefactError, match=f"{OTHER_BUDGET}|older copy"):
        run(other, "three")
    run(one, "four") if how != "copied after" else None


@pytest.mark.parametrize("name", ["register.json", "key", "ledger.json"])
def test_a_folder_in_the_place_of_a_file_is_to_be_moved_away(
    name, sites, ledger, tmp_path, register
):
    """It was said that there is no budget, or that another register is to be named."""
    release(sites, "ABC", tmp_path / "abc")
    file = ledger.path if name == "ledger.json" else register / name
    file.rename(file.with_name("kept"))
    file.mkdir()
    with pytest.raises(ArtefactError, match=rf"{name}.*directory(.|\n)*move it away"):
        ledger.read() if name == "ledger.json" else release(sites, "AB", tmp_path / "ab")
    file.rmdir()
    file.with_name("kept").rename(file)
    with pytest.raises(ArtefactError, match=ISOLATED):
        release(sites, "AB", tmp_path / "ab")
    assert ledger.read().releases == ()


def test_releases_that_are_made_at_once_are_not_both_written(sites, tmp_path):
    """Both were made beside the same past; whoever is written second is looked at again."""
    first, second = (
        release_threshold(merge(*(sites[name] for name in names))) for names in ("ABC", "AB")
    )
    first.save(tmp_path / "abc")
    with pytest.raises(ArtefactError, match=ISOLATED):
        second.save(tmp_path / "ab")
    assert not (tmp_path / "ab").exists()


def test_the_same_release_again_tells_nothing_and_is_let_through(sites, tmp_path):
    """Whoever was killed before the folder was there gives the same command again."""
    for out in ("one", "two"):
        release(sites, "ABC", tmp_path / out)
    names = [read_manifest(tmp_path / out).release.entry for out in ("one", "two")]
    assert names[0] == names[1]
    assert len(Register.here().past()) == 1


def test_a_copy_of_a_ledger_is_no_second_budget(ledger, tmp_path):
    copy = Ledger(tmp_path / "copy.json")
    shutil.copy(ledger.path, copy.path)
    private(ledger, site_tables(0))
    with pytest.raises(ArtefactError, match="older copy"):
        private(copy, site_tables(0))
    ledger.path.rename(tmp_path / "moved.json")
    private(Ledger(tmp_path / "moved.json"), site_tables(0))  # a ledger may be moved
