"""Releases of the same patients by other events or windows, and of more patients: no difference of
them is of few patients, or mostly of one."""

from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy.optimize import nnls

from medmcl.cooccurrence import Vocabulary, count_tokens
from medmcl.cooccurrence.count.command import count
from medmcl.cooccurrence.count.counts import Provenance
from medmcl.cooccurrence.count.people import (
    counted_alike,
    people_of_subjects,
    register_folder,
    shared_patients,
)
from medmcl.cooccurrence.count.run import Means
from medmcl.cooccurrence.count.spec import load_spec
from medmcl.cooccurrence.exchange.checks import refuse_telling
from medmcl.cooccurrence.exchange.folder import load_counts, save_counts
from medmcl.cooccurrence.exchange.secure import site_by_name
from medmcl.cooccurrence.release import cells, differences
from medmcl.cooccurrence.release.cells import Cells, cells_in_the_places_of
from medmcl.cooccurrence.release.other_events import (
    elementary_factors,
    factors_of,
    where_told_by_others,
)
from medmcl.cooccurrence.release.register import Register
from medmcl.cooccurrence.release.release import release_threshold
from medmcl.core.errors import ArtefactError
from medmcl.stages.cooccur.release import release_folders

PATIENTS = 240
D = 4
CODES = [f"{kind}{k}" for kind in "AB" for k in range(D)]
YEARS = (2019, 2020, 2021)


def events(seed, patients=range(PATIENTS)):
    """Three years of two settings; everybody is in all of them, few have a pair across both."""
    draw = np.random.default_rng(seed)
    rows = []

    def add(patient, year, codes, ward, months=12):
        day = pd.Timestamp(year, 1, 1) + pd.Timedelta(days=int(draw.integers(30 * months)))
        rows.extend((f"P{patient}", day, code, ward) for code in codes)

    for patient in range(300):
        home = ("out", "in")[int(draw.random() < 0.6)]
        for year, ward, code in product(YEARS, ("in", "out"), ("A3", "B3")):
            add(patient, year, [code], ward)
        for k, (often, alone) in enumerate([(0.12, 0.1), (0.3, 0.05), (0.3, 0.9)]):
            if draw.random() < often:  # both on one day
                add(patient, draw.choice(YEARS), [f"A{k}", f"B{k}"], home)
            for code in (f"A{k}", f"B{k}"):
                for _ in range(draw.poisson(alone)):
                    ward = home if draw.random() < 0.97 else ("in", "out")[int(home == "in")]
                    add(patient, draw.choice(YEARS), [code], ward)
    for patient in range(20):  # some have much, one across months, and one who came later
        add(patient, 2020, ["A2", "B2"] * 12, "in")
        add(25, 2020 + patient // 12, ["A2", "B2"], "in", 1 + patient % 12)
    add(PATIENTS + 5, 2020, ["A2", "B2"] * 18, "in")
    table = pd.DataFrame(rows, columns=["patient", "date", "code", "setting"])
    return table[table["patient"].str[1:].astype(int).isin(patients)]


def counted(folder, table, name, window="record", **changes):
    table.to_csv(folder / f"{name}.csv", index=False)
    spec = {
        "schema": "medmcl/cooccurrence@1",
        "sources": [{"kind": "table", "path": f"{name}.csv", "subject": "patient", "time": "date",
                     "code": "code"}],
        "modalities": {"a": {"prefix": "A"}, "b": {"prefix": "B"}},
        "window": window,
        **changes,
    }  # fmt: skip
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(spec))
    count(load_spec(folder / f"{name}.yaml"), folder / name, save_counts, means=Means())
    return folder / name


def laboratory(seed):
    """Values of codes that are not counted, on so many days that all else is rare."""
    draw = np.random.default_rng(seed)
    patients = np.repeat(np.arange(PATIENTS), 400)
    days = pd.to_timedelta(draw.integers(3 * 365, size=len(patients)), unit="D")
    return pd.DataFrame(
        {"patient": [f"P{k}" for k in patients], "date": pd.Timestamp(2019, 1, 1) + days,
         "code": "L", "setting": "laboratory"}, index=-1 - np.arange(len(patients)),
    )  # fmt: skip


def each(table, window="record"):
    """What each patient gives to each cell, by looking at everybody, (300, D, D)."""
    table = table[table["code"].isin(CODES)]
    month = table["date"].dt.year * 12 + table["date"].dt.month if window == "month" else 0
    unit = table["patient"].str[1:].astype(int) * 100_000 + month
    units, place = np.unique(unit, return_inverse=True)
    often = np.zeros((len(units), 2 * D), dtype=np.int64)
    np.add.at(often, (place, [CODES.index(code) for code in table["code"]]), 1)
    cells = np.zeros((300, D, D), dtype=np.int64)
    np.add.at(cells, units // 100_000, often[:, :D, None] * often[:, None, D:])
    return cells


def shown(folder):
    """The released cells in the places of all codes."""
    counts = load_counts(folder)
    wide = np.zeros((D, D), dtype=np.int64)
    places = [[int(one[1:]) for one in counts.vocabularies[name].tokens] for name in "ab"]
    wide[np.ix_(*places)] = counts.D.toarray()
    return wide


def of_few(tables, truth, released):
    """Cells that a sum or difference tells, and those of them of few patients or mostly of one."""
    told = bad = 0
    for factors in product((0, 1, -1), repeat=len(released)):
        used = np.flatnonzero(factors)
        if len(used) < 2 or factors[used[0]] < 0:
            continue
        if sum(len(tables[k]) for k in used) == len(
            pd.concat([tables[k] for k in used]).index.unique()
        ):
            continue  # no event in common: nothing is taken away
        all_there = np.all([released[k] > 0 for k in used], axis=0)
        parts = np.abs(sum(factors[k] * truth[k] for k in used))
        value = np.abs(sum(factors[k] * released[k] for k in used))
        few = ((parts > 0).sum(axis=0) < 11) | (parts.max(axis=0) > 0.8 * value)
        told += int(all_there.sum())
        bad += int((all_there & few).sum())
    return told, bad


def parts(kind, seed):
    """Series of tables, each with its window."""
    table = events(seed)
    if kind == "settings":
        tables = [table, *(table[table["setting"] == one] for one in ("in", "out"))]
        return [(one, "record") for one in tables]
    if kind == "rare settings":
        whole = pd.concat([table, laboratory(seed)])
        rare = (table[table["setting"] == one] for one in ("in", "out"))
        return [(one, "record") for one in (whole, *rare)]
    if kind == "windows":
        return [(table, "record"), (table, "month")]
    if kind == "more patients":
        return [(table, "record"), (events(seed, range(PATIENTS + 40)), "record")]
    return [(table[table["date"] < end], "record") for end in ("2020", "2021", "2022")]


KINDS = ["settings", "rare settings", "windows", "more patients", "years that grow"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("turned", [False, True])
def test_no_difference_is_of_few_patients_or_mostly_of_one(kind, turned, tmp_path):
    """All less inside less outside was three patients' pairs across both; a patient among those who
    came gave nearly all of a difference; so did one among windows."""
    series = parts(kind, 0)[:: -1 if turned else 1]
    tables, released = [table for table, _ in series], []
    for k, (table, window) in enumerate(series):
        place = counted(tmp_path, table, f"c{k}", window)
        try:
            release_folders([place], tmp_path / f"r{k}")
            released.append(shown(tmp_path / f"r{k}"))
        except ArtefactError as error:
            assert "no cell has enough patients" in str(error)  # noqa: PT017 - not each time
            released.append(np.zeros((D, D), dtype=np.int64))
    truth = [each(*one) for one in series]
    alone = [cells.sum(axis=0) * ((cells > 0).sum(axis=0) >= 11) for cells in truth]
    assert of_few(tables, truth, alone)[1] > 0  # without a register
    told, bad = of_few(tables, truth, released)
    assert bad == 0
    assert told or kind in ("settings", "rare settings", "windows")


def as_rows(table):
    """Occurrences of each patient, (300, D) of each modality."""
    often = np.zeros((300, 2 * D), dtype=np.int64)
    places = (table["patient"].str[1:].astype(int), [CODES.index(code) for code in table["code"]])
    np.add.at(often, places, 1)
    return often[:, :D], often[:, D:]


@pytest.mark.parametrize("how", ["secure sums", "tables"])
@pytest.mark.parametrize("turned", [False, True])
def test_no_difference_of_sums_or_tables_is_of_few_patients(how, turned, tmp_path):
    """A site was known by its name and a table by its records, whatever events they were of."""
    words = {name: Vocabulary(tuple(f"{name.upper()}{k}" for k in range(D)), "v") for name in "ab"}
    series = [table for table, _ in parts("settings", 1)][:: -1 if turned else 1]
    people = tuple(site_by_name(name) for name in ("Ayr", "Bonn", "Cork"))
    released, truth = [], [each(table) for table in series]
    for k, table in enumerate(series):
        counts = count_tokens(*as_rows(table), names="ab", vocabularies=words, subjects=range(300))
        if how == "secure sums":
            counts = replace(counts, sites=3, provenance=Provenance(people=people))
        try:
            release = release_threshold(counts, public_vocabulary=True)
            released.append(shown(release.save(tmp_path / f"r{k}")))
        except ArtefactError as error:
            assert "no cell has enough patients" in str(error)  # noqa: PT017 - not each time
            released.append(np.zeros((D, D), dtype=np.int64))
    assert (released[0] > 0).sum() > 4
    assert of_few(series, truth, released)[1] == 0


def test_rows_without_names_of_which_some_changed_hide_no_difference(tmp_path):
    """Of thirty patients one event each is gone: they were thirty who left and thirty who came."""
    draw = np.random.default_rng(0)
    x = [draw.poisson(0.7, (150, 12)) for _ in range(2)]
    y = [one.copy() for one in x]
    for patient in range(30):
        one = y[patient % 2]
        one[patient, draw.choice(np.flatnonzero(one[patient]))] = 0
    first = release_threshold(count_tokens(*x))
    first.save(tmp_path / "x")
    each = np.einsum("ni,nj->nij", *x) - np.einsum("ni,nj->nij", *y)
    few = ((each > 0).sum(axis=0) < 11) & each.any(axis=0)
    assert (few & (first.counts.D.toarray() > 0)).sum() > 50
    with pytest.raises(ArtefactError, match="no cell has enough patients"):
        release_threshold(count_tokens(*y))
    alone = release_threshold(count_tokens(*y), register=Register(tmp_path / "another"))
    assert (few & (alone.counts.D.toarray() > 0)).sum() > 50


def test_renamed_patients_of_whom_some_are_not_known_again_hide_no_difference(tmp_path):
    """Who has other events besides was somebody who left and somebody who came."""
    table = events(0, range(PATIENTS))
    number = table["patient"].str[1:].astype(int)
    more = table[number % 5 < 2].assign(code="L")
    gone = (number < 4) & (table["code"] == "A3")
    other = pd.concat([table[~gone], more]).sort_values(["patient", "date"])
    release_folders([counted(tmp_path, table, "a")], tmp_path / "ra")
    other = counted(tmp_path, other.assign(patient="Q" + other["patient"]), "b")
    alone = release_threshold(load_counts(other), register=Register(tmp_path / "another"))
    alone.save(tmp_path / "alone")
    first, seen = (shown(tmp_path / name) for name in ("ra", "alone"))
    assert first[3, 3] > seen[3, 3] > 0  # of four patients
    with pytest.raises(ArtefactError, match="no cell has enough patients"):
        release_folders([other], tmp_path / "rb")


def test_names_of_rows_are_names(tmp_path):
    x = np.ones((3, 2), dtype=int)
    for subjects in ("aab", "ab"):
        with pytest.raises(ArtefactError, match="expected: 3 different names"):
            count_tokens(x, x, subjects=list(subjects))
    table = events(0, range(20))
    one = load_counts(counted(tmp_path, table, "of events")).provenance.people[0]
    names = table["patient"].unique()
    x = np.ones((len(names), 2), dtype=int)
    assert shared_patients(one, count_tokens(x, x, subjects=names).provenance.people[0]) == 20


@pytest.mark.parametrize("releases", [2, 3, 4])
def test_what_takes_nothing_away_is_a_sum_of_what_is_looked_at(releases):
    """Of any factors, for random kinds of events that some releases count and others do not."""
    mine = elementary_factors(releases)
    kinds = np.array(list(product((0, 1), repeat=releases)))[1:]
    normals = set()
    for some in combinations(kinds, releases - 1):
        minors = [(-1) ** k * np.linalg.det(np.delete(some, k, axis=1)) for k in range(releases)]
        normal = np.rint(minors).astype(int)
        if normal.any():
            normal //= np.gcd.reduce(normal)
            normals.add(tuple((normal * np.sign(normal[normal != 0][0])).tolist()))
    assert {tuple(one) for one in mine.tolist()} == normals
    draw = np.random.default_rng(0)
    factors = np.array(list(product(range(-4, 5), repeat=releases)))
    for _ in range(8):
        there = kinds[draw.random(len(kinds)) < 0.5]
        both = np.concatenate([mine, -mine])
        edges = both[(both @ there.T >= 0).all(axis=1)]
        allowed = factors[(factors @ there.T >= 0).all(axis=1)]
        for one in draw.permutation(allowed)[:20]:
            assert nnls(edges.T.astype(float), one.astype(float))[1] < 1e-6


def test_twice_a_release_less_three_others_is_looked_at():
    """2 A - B - C - D is mostly of one, and no sum or difference of them is."""
    pairs = np.array([1000, 600, 600, 600])[:, None]
    few = np.zeros((4, 1), dtype=np.int64)
    cells = Cells((few[0], few[0]), pairs, few + 100, few + 70, few)
    otherwise, shared = ~np.eye(4, dtype=bool), np.zeros((4, 4), dtype=np.int64)
    factors = factors_of(otherwise, 2000)
    assert [2, -1, -1, -1] in factors.tolist()
    assert where_told_by_others(cells, factors, shared, 11, 0.8).all()
    signs = factors[np.abs(factors).max(axis=1) == 1]
    assert not where_told_by_others(cells, signs, shared, 11, 0.8).any()


def test_years_of_the_same_patients_are_released_whole(tmp_path):
    """Nothing of one is in another: each is as if it were alone."""
    table = events(1)
    for year in ("2019", "2020", "2021"):
        place = counted(tmp_path, table[table["date"].dt.strftime("%Y") == year], year)
        alone = release_threshold(load_counts(place), register=Register(tmp_path / f"of {year}"))
        release_folders([place], tmp_path / f"r{year}")
        assert (shown(tmp_path / f"r{year}") > 0).sum() == alone.counts.D.nnz > 4
    whole = counted(tmp_path, table, "whole")  # less all years it is what lies across them
    told = release_folders([whole], tmp_path / "r")
    assert told["cells suppressed"] > 4


CHANGES = {
    "order": (lambda one: one.iloc[::-1], True),
    "fewer": (lambda one: one[one["patient"] != "P3"], True),
    "renamed": (lambda one: one.assign(patient=one["patient"] + "0"), True),
    "an event less": (lambda one: one.drop(one.index[one["patient"] == "P3"][0]), False),
    "a code for another": (lambda one: one.assign(code=one["code"].replace("A1", "A0")), False),
    "moved": (lambda one: one.assign(date=one["date"] + pd.Timedelta(days=4000)), False),
    "a year": (lambda one: one[one["date"] >= "2021"], False),
}


@pytest.mark.parametrize("how", CHANGES)
def test_what_was_counted_of_a_patient_is_known_again(how, tmp_path):
    change, same = CHANGES[how]
    table = events(0, range(100))
    places = [counted(tmp_path, one, name) for one, name in ((table, "a"), (change(table), "b"))]
    one, other = (load_counts(place).provenance.people[0] for place in places)
    assert counted_alike(one, other) is same


def test_another_modality_beside_takes_no_cell_away(tmp_path):
    """What the first release shows tells nothing new in the second."""
    table = events(0)
    more = pd.concat([table, table[table["code"] == "A0"].assign(code="C0")])
    more = more.sort_values(["patient", "date"])
    release_folders([counted(tmp_path, table, "two")], tmp_path / "r2")
    rules = {name: {"prefix": name.upper()} for name in "abc"}
    release_folders([counted(tmp_path, more, "three", modalities=rules)], tmp_path / "r3")
    both = [load_counts(tmp_path / name).blocks["a", "b"].pairs for name in ("r2", "r3")]
    assert both[0].nnz == both[1].nnz > 4


LAYOUTS = {
    "whole": {"a": CODES[:D], "b": CODES[D:]},
    "turned": {"x": CODES[D:], "y": CODES[:D]},
    "split": {"a1": CODES[:1], "a2": CODES[1:D], "b": CODES[D:]},
    "within": {"codes": CODES[: D + 1], "b": CODES[D + 1 :]},
    "settings": {"in": CODES[:D], "out": CODES[:D], "b": CODES[D:]},
}
"""Codes of each modality."""


def laid_out(how, patients):
    """Counts of some of 300 patients; five of the last 60 have A0 and B0, all each other pair."""
    x = np.ones((patients, 2 * D), dtype=int)
    x[240:268, 0] = 0
    x[268:295, D] = 0
    tables = {
        name: x[:, [CODES.index(code) for code in codes]] for name, codes in LAYOUTS[how].items()
    }
    for k, name in enumerate(("in", "out")):
        if name in tables:
            tables[name][k::2] = 0
    words = {name: Vocabulary(tuple(codes), "v") for name, codes in LAYOUTS[how].items()}
    parts = [
        count_tokens(*(tables[one] for one in pair), names=pair, vocabularies=words,
                     within=how == "within")
        for pair in combinations(words, 2)
    ]  # fmt: skip
    return replace(
        parts[0],
        vocabularies=words,
        margins={name: one for part in parts for name, one in part.margins.items()},
        blocks={pair: one for part in parts for pair, one in part.blocks.items()},
        provenance=Provenance(people=people_of_subjects([f"P{k}" for k in range(patients)])),
    )


def cells_of(counts):
    """The two codes of each released cell."""
    refuse_telling(counts, "release")  # within a modality both halves are left out, or neither
    return {
        frozenset(counts.vocabularies[name].tokens[k] for name, k in zip(pair, place, strict=True))
        for pair, block in counts.blocks.items()
        for place in zip(*block.pairs.nonzero(), strict=True)
    }


@pytest.mark.parametrize("before", LAYOUTS)
def test_cells_are_found_again_in_other_modalities(before, tmp_path):
    """Only the block of the most tokens of an earlier release was looked at, in one direction."""
    release_threshold(laid_out(before, 240)).save(tmp_path / "before")
    wrong = {}
    for after in LAYOUTS:
        counts = laid_out(after, 300)
        alone = release_threshold(counts, register=Register(tmp_path / "another"))
        left_out = cells_of(alone.counts) - cells_of(release_threshold(counts).counts)
        if left_out != {frozenset(("A0", "B0"))}:
            wrong[after] = left_out
    assert not wrong


def test_every_sum_of_some_settings_is_looked_at(monkeypatch):
    """Three settings as modalities, then two of them as one: only single ones and all were."""
    monkeypatch.setitem(
        LAYOUTS, "three", dict.fromkeys(("in", "out", "er"), CODES[:D]) | {"b": CODES[D:]}
    )
    before, new = laid_out("three", 240), laid_out("whole", 300)
    parts = np.array([before.blocks[k, "b"].pairs.toarray() for k in ("in", "out", "er")])
    wanted = {
        tuple(parts[list(some)].sum(axis=0)[new.blocks["a", "b"].pairs.nonzero()])
        for k in (1, 2, 3) for some in combinations(range(3), k)
    }  # fmt: skip
    seen = [one.pairs[1] for pair, one in cells_in_the_places_of(new, [before])]
    # blocks are in order of size cell by cell: of each cell every sum is there
    for n, sums in enumerate(zip(*wanted, strict=True)):
        assert set(sums) <= {int(one[n]) for one in seen}
    monkeypatch.setattr(cells, "MOST_SUMS", 6)
    with pytest.raises(ArtefactError, match="one modality"):
        list(cells_in_the_places_of(new, [before]))


def test_too_many_releases_of_other_events_are_refused_by_name(tmp_path, monkeypatch):
    otherwise = np.ones((8, 8), dtype=bool)
    assert factors_of(otherwise, differences.MOST_COMBINATIONS) is None
    assert len(factors_of(otherwise[:7, :7], differences.MOST_COMBINATIONS)) == 3**6 - 1
    (one, window), (other, _), _ = parts("settings", 0)
    release_folders([counted(tmp_path, one, "a", window)], tmp_path / "ra")
    monkeypatch.setattr(differences, "factors_of", lambda *_: None)
    with pytest.raises(
        ArtefactError, match=r"released too often by other events(.|\n)*none was counted before"
    ):
        release_folders([counted(tmp_path, other, "b", window)], tmp_path / "rb")


def test_what_the_register_keeps_of_one_patient_or_site_is_rounded_up(tmp_path):
    table = events(0)
    both = [table[table["patient"].str[1:].astype(int) % 2 == k] for k in range(2)]
    places = [counted(tmp_path, one, f"s{k}") for k, one in enumerate(both)]
    release_folders(places, tmp_path / "r", largest_share=1)
    (past,) = Register.here().past()
    exact = [load_counts(place) for place in places]
    most = np.maximum(*(one.margins["a"].most for one in exact))
    kept = past.counts.margins["a"].most
    assert set(kept.tolist()) <= {1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128}
    assert ((kept >= most) & (kept <= 1.5 * most)).all()
    largest = np.maximum(*(one.D.toarray() for one in exact))
    site = past.counts.cross().largest.toarray()
    assert ((site >= largest) | (site == 0)).all()
    assert (site != largest).any()


@pytest.mark.parametrize("said", ["register", "./register", "~nobody-of-that-name/register"])
def test_a_register_of_each_working_directory_is_refused(said, tmp_path, monkeypatch):
    """Two directories were two registers, and epsilon was spent twice."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEDMCL_REGISTER", said)
    with pytest.raises(ArtefactError, match=r"each working directory(.|\n)*MEDMCL_REGISTER=/"):
        counted(tmp_path, events(0, range(5)), "c")
    assert not (tmp_path / "c").exists()


def test_a_register_below_the_home_directory_is_one(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MEDMCL_REGISTER", "~/register")
    assert register_folder() == tmp_path / "register"
