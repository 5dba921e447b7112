"""A patient whom several counts hold is one: in sums, in shares of secure sums, and beside them."""

from errno import ENOSPC
from itertools import combinations
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
import yaml
from small_counts import tables, vocabularies

from medmcl.cooccurrence import count_tokens
from medmcl.cooccurrence.count.command import count
from medmcl.cooccurrence.count.run import Means
from medmcl.cooccurrence.count.spec import load_spec
from medmcl.cooccurrence.exchange import secure_files
from medmcl.cooccurrence.exchange.folder import load_counts, read_manifest, save_counts
from medmcl.cooccurrence.exchange.merging import OTHER_PEOPLE, merge
from medmcl.cooccurrence.exchange.secure_files import load_keys
from medmcl.cooccurrence.release.ledger import Ledger
from medmcl.cooccurrence.release.private import release_private
from medmcl.cooccurrence.release.register import Register
from medmcl.cooccurrence.release.release import release_threshold
from medmcl.core.errors import ArtefactError
from medmcl.stages.cooccur.merge import (
    merge_folders,
    share_counts,
    share_seed,
    start_round,
    sum_shares,
)
from medmcl.stages.cooccur.release import release_folders

YEARS = range(2010, 2013)
TWICE = r"added twice(.|\n)*got: +{} patients who are in(.|\n)*one `medmcl cooccur count`"
OTHER_NAME = r"shared under another name(.|\n)*got: +{} patients whom Cork shared"


def events(seed, patients):
    """Days of each patient in each year."""
    draw = np.random.default_rng(seed)
    rows = []
    for patient in patients:
        for year in YEARS:
            days = pd.Timestamp(year, 1, 1) + pd.to_timedelta(draw.integers(360, size=6), unit="D")
            rows += [(patient, day, f"{kind}{draw.integers(3)}", year)
                     for day in days for kind in "AB"]  # fmt: skip
    return pd.DataFrame(rows, columns=["patient", "date", "code", "year"])


def counted(folder, table, name, time="date", **source):
    file = folder / "events.csv"
    if table is not None:
        file = folder / f"{name}.csv"
        table.to_csv(file, index=False)
    spec = {
        "schema": "medmcl/cooccurrence@1",
        "sources": [{"kind": "table", "path": file.name, "subject": "patient", "time": time,
                     "code": "code"} | source],
        "modalities": {"a": {"prefix": "A"}, "b": {"prefix": "B"}},
    }  # fmt: skip
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(spec))
    count(load_spec(folder / f"{name}.yaml"), folder / name, save_counts, means=Means())
    return folder / name


def test_a_patient_whose_years_are_counted_one_by_one_is_one_patient(tmp_path):
    """Each year counted the only patient of a cell again, until the cell passed the threshold."""
    table = events(0, [f"P{k}" for k in range(40)])
    alone = [
        ("P7", pd.Timestamp(year, 3, 1), code, year) for year in YEARS for code in ("A9", "B9")
    ]
    pd.concat([table, pd.DataFrame(alone, columns=table.columns)]).to_csv(
        tmp_path / "events.csv", index=False
    )
    years = [counted(tmp_path, None, str(y), keep={"year": [str(y)]}) for y in YEARS]
    with pytest.raises(ArtefactError, match=TWICE.format(40)):
        release_folders(years, tmp_path / "out", min_patients=3, align="union")
    with pytest.raises(ArtefactError, match=TWICE.format(40)):
        merge_folders(years, tmp_path / "sum", align="union")
    first, *rest = (load_counts(one) for one in years)
    with pytest.raises(ArtefactError, match=r"site 2 of the sum(.|\n)*" + TWICE.format(40)):
        release_threshold(sum(rest, first), 3)
    whole = counted(tmp_path, None, "all", keep={"year": [str(y) for y in YEARS]})
    release_folders([whole], tmp_path / "out", min_patients=3)
    assert "A9" not in load_counts(tmp_path / "out").vocabularies["a"].tokens


@pytest.mark.parametrize("time", ["date", None])
def test_the_same_ids_by_chance_are_added_if_somebody_says_so(tmp_path, time):
    both = ["1", "2", "3"]
    tables = [events(s, [*both, *(f"{s}-{k}" for k in range(30))]).assign(site=s) for s in (1, 2)]
    if time is None:
        tables = [one.drop(columns="date") for one in tables]
    sites = [counted(tmp_path, one, f"s{k}", time) for k, one in enumerate(tables)]
    with pytest.raises(ArtefactError, match=TWICE.format(3) + r"(.|\n)*--other-people"):
        release_folders(sites, tmp_path / "out")
    release_folders(sites, tmp_path / "out", other_people=True)
    assert OTHER_PEOPLE in read_manifest(tmp_path / "out").release.warnings
    merge_folders(sites, tmp_path / "sum", other_people=True)
    release_folders([tmp_path / "sum"], tmp_path / "again")  # its manifest remembers what was said
    assert OTHER_PEOPLE in read_manifest(tmp_path / "again").release.warnings
    if time:  # nobody's word stands against the days
        fewer = counted(tmp_path, tables[0].iloc[2:], "fewer")
        with pytest.raises(ArtefactError, match=r"added twice(.|\n)*days or contents show"):
            merge(sites[0], fewer, other_people=True)


@pytest.fixture
def sites(tmp_path):
    """Three hospitals; of the third also counts of other patients of it."""
    words = vocabularies(5, 5)

    def save(name, seed, start=0, stop=60):
        x = [part[start:stop] for part in tables(seed, n=90, d1=5, d2=5, rate=0.7)]
        names = [f"{seed}-{k}" for k in range(start, stop)]
        return save_counts(count_tokens(*x, vocabularies=words, subjects=names), tmp_path / name)

    return {
        "Ayr": save("Ayr", 0), "Bonn": save("Bonn", 1), "Cork": save("Cork", 2),
        "one less": save("less", 2, 1), "14 less": save("fewer", 2, 14),
        "others": save("others", 2, 59, 90),
    }  # fmt: skip


class Rounds:
    """Secure sums of three sites in one place, each round with keys of its own."""

    def __init__(self, place, sites):
        self.place, self.sites, self.number = place, sites, 0

    def start(self, *names):
        self.number += 1
        here = self.place / f"round {self.number}"
        here.mkdir()
        for one, other in combinations(names, 2):
            for mine, theirs in ((one, other), (other, one)):
                share_seed(mine, theirs, here / f"{mine}.keys", here / f"{one}-{other}")
        start_round(self.sites["Ayr"], names, here / "turn")
        return here

    def share(self, here, name, folder, **said):
        out = here / f"{name}.share"
        share_counts(self.sites[folder], here / f"{name}.keys", here / "turn", out, **said)
        return out


@pytest.fixture
def rounds(tmp_path, sites):
    return Rounds(tmp_path, sites)


def summed(rounds):
    here = rounds.start("Ayr", "Bonn", "Cork")
    shares = [rounds.share(here, name, name) for name in ("Ayr", "Bonn", "Cork")]
    sum_shares(shares, here / "turn", rounds.place / "total")
    return rounds.place / "total"


def test_a_site_shares_the_same_patients_under_one_name(rounds):
    """A second sum with the same site, less a patient, under another name gave that patient."""
    summed(rounds)
    here = rounds.start("Ayr", "Bonn", "Cork2")
    with pytest.raises(ArtefactError, match=OTHER_NAME.format(59)):
        rounds.share(here, "Cork2", "one less")
    with pytest.raises(ArtefactError, match=OTHER_NAME.format(1)):
        rounds.share(here, "Cork2", "others")
    assert not load_keys(here / "Cork2.keys").spent  # refused unspent, and nothing is entered
    assert len(Register.beside(rounds.place).shares()) == 3
    rounds.share(here, "Cork2", "others", other_people=True)
    again = rounds.start("Ayr", "Bonn", "Cork")
    with pytest.raises(ArtefactError, match=r"nearly the same(.|\n)*1 patients who came or left"):
        rounds.share(again, "Cork", "one less")
    rounds.share(again, "Cork", "Cork")  # the very same tell nothing new
    last = rounds.start("Ayr", "Bonn", "Cork")
    rounds.share(last, "Cork", "14 less", other_people=True)  # one of them is of Cork2


def test_few_changed_records_are_not_shared_as_a_second_sum(rounds, tmp_path):
    summed(rounds)
    words, names = vocabularies(5, 5), [f"2-{k}" for k in range(60)]
    for changed, ends in ((3, False), (14, True)):
        x = [part[:60].copy() for part in tables(2, n=90, d1=5, d2=5, rate=0.7)]
        x[0][:changed] += 1
        counts = count_tokens(*x, vocabularies=words, subjects=names)
        rounds.sites[changed] = save_counts(counts, tmp_path / f"changed {changed}")
        here = rounds.start("Ayr", "Bonn", "Cork")
        if ends:
            rounds.share(here, "Cork", changed)
        else:
            with pytest.raises(ArtefactError, match=r"0 patients who .*, 3 with other records"):
                rounds.share(here, "Cork", changed)


def test_a_share_that_the_disk_did_not_take_is_written_again(rounds, monkeypatch):
    """Nothing had left, and its site's counts were nearly the same ever after."""
    here, save = rounds.start("Ayr", "Bonn", "Cork"), secure_files.save_share
    for step in ("save_keys", "save_share", "write_atomically"):  # each fails once
        with monkeypatch.context() as once:
            once.setattr(secure_files, step, Mock(side_effect=OSError(ENOSPC, "full")))
            with pytest.raises(OSError, match="full"):
                rounds.share(here, "Cork", "Cork")
    with pytest.raises(ArtefactError, match=r"before, for other counts(.|\n)*secure-start"):
        rounds.share(here, "Cork", "others", other_people=True)
    assert len(Register.beside(rounds.place).shares()) == 1
    first = rounds.share(here, "Cork", "Cork")
    again = share_counts(rounds.sites["Cork"], here / "Cork.keys", here / "turn", here / "again")
    assert (here / "again").read_bytes() == first.read_bytes()
    assert again["round"] in load_keys(here / "Cork.keys").spent
    assert secure_files.save_share is save


def test_a_share_of_patients_with_a_budget_is_refused_as_a_release_is(rounds, tmp_path):
    """Their exact counts went into a sum, beside which epsilon promised nothing."""
    ledger = Ledger.start(tmp_path / "ledger.json", epsilon=2, delta=1e-6)
    x = [part[:60] for part in tables(2, n=90, d1=5, d2=5, rate=0.7)]
    release_private(*x, vocabularies=vocabularies(5, 5), clip=(2, 2), epsilon=1, delta=1e-6,
                    ledger=ledger, patients=[f"2-{k}" for k in range(60)])  # fmt: skip
    here = rounds.start("Ayr", "Bonn", "Cork")
    with pytest.raises(ArtefactError, match=r"got: +60 patients(.|\n)*--beside-private"):
        rounds.share(here, "Cork", "Cork")
    assert not load_keys(here / "Cork.keys").spent
    rounds.share(here, "Ayr", "Ayr")  # other people
    rounds.share(here, "Cork", "Cork", beside_private=True)


def test_a_share_that_was_taken_out_of_the_register_is_missed(rounds):
    summed(rounds)
    first = next((Register.beside(rounds.place).folder / "shares").iterdir())
    (first / "manifest.json").unlink()
    with pytest.raises(ArtefactError, match=r"entry of the register is missing"):
        rounds.share(rounds.start("Ayr", "Bonn", "Cork"), "Cork", "Cork")


def test_a_register_that_is_gone_is_missed_where_shares_were_made(rounds):
    summed(rounds)
    (Register.beside(rounds.place).folder / "register.json").unlink()
    with pytest.raises(ArtefactError, match="is missing, and shares were made"):
        rounds.share(rounds.start("Ayr", "Bonn", "Cork"), "Cork", "one less")


def test_newcomers_do_not_cover_a_changed_record(rounds, tmp_path):
    """14 new patients of one code each beside it: the difference of sums was its record."""
    summed(rounds)
    words, names = vocabularies(5, 5), [f"2-{k}" for k in range(60)]
    x = [part[:60] for part in tables(2, n=90, d1=5, d2=5, rate=0.7)]
    x[0][:1] += 1
    new = np.eye(1, 5, dtype=int).repeat(14, axis=0)
    x = [np.concatenate([x[0], new]), np.concatenate([x[1], 0 * new])]
    counts = count_tokens(*x, vocabularies=words, subjects=[*names, *(f"n{k}" for k in range(14))])
    rounds.sites["covered"] = save_counts(counts, tmp_path / "covered")
    with pytest.raises(ArtefactError, match="nearly the same"):
        rounds.share(rounds.start("Ayr", "Bonn", "Cork"), "Cork", "covered")


def test_a_sum_and_the_counts_of_its_own_site_are_not_added(rounds, sites, tmp_path):
    """Ayr stood in both, and six of its patients passed as twelve."""
    total = summed(rounds)
    for together in (lambda: merge(total, sites["Ayr"]),
                     lambda: release_folders([total, sites["Ayr"]], tmp_path / "r")):  # fmt: skip
        with pytest.raises(ArtefactError, match=r"in a secure sum cannot be told(.|\n)*one secure"):
            together()
    merge(total, sites["others"], other_people=True)


def test_a_site_is_not_read_off_a_secure_sum_and_a_release_of_the_others(rounds, sites, tmp_path):
    """Ayr + Bonn + Cork by their names less Ayr + Bonn by their patients was Cork."""
    total = summed(rounds)
    release_folders([total], tmp_path / "all")
    two = [sites["Ayr"], sites["Bonn"]]
    with pytest.raises(ArtefactError, match=r"cannot be told(.|\n)*--beside-sums"):
        release_folders(two, tmp_path / "two")
    release_folders([total], tmp_path / "again")  # tells nothing new
    told = release_folders(two, tmp_path / "two", beside_sums=True)
    assert any("was not compared" in one for one in told["warnings"])

    here = rounds.start("Ayr", "Bonn", "Dax")
    shares = [rounds.share(here, name, name) for name in ("Ayr", "Bonn")]
    shares.append(rounds.share(here, "Dax", "others", other_people=True))
    sum_shares(shares, here / "turn", tmp_path / "other")
    with pytest.raises(ArtefactError, match="beside a release of counts"):
        release_folders([tmp_path / "other"], tmp_path / "new")
