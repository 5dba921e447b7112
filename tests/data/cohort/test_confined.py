"""No cell of a table leads a reader out of the folders that cohort.yaml names."""

import os
import re
import socket

import numpy as np
import pandas as pd
import pytest
import yaml

from medmcl.core.contracts import RecordRef
from medmcl.core.errors import CohortError
from medmcl.core.limits import below
from medmcl.data.check.check import check_cohort
from medmcl.data.cohort.cohort import load_cohort, open_cohort
from medmcl.data.loading.reading import read_record
from medmcl.modalities import ADAPTERS
from medmcl.modalities.ecg.settings import ECGSettings, ECGSource

PEOPLE = [f"p{number}" for number in range(6)]


@pytest.fixture
def cohort(tmp_path):
    """Notes of six people as files, and a secret beside the cohort; what is written over it."""
    home, secret = tmp_path / "cohort", tmp_path / "elsewhere"
    (home / "notes").mkdir(parents=True)
    secret.mkdir()
    (secret / "passwords.txt").write_text("root: hunter2")
    for person in PEOPLE:
        (home / "notes" / f"{person}.txt").write_text("sinus rhythm")
        (secret / f"{person}.txt").write_text("kept elsewhere, on purpose")

    def write(file="notes/{id}.txt", cells=None, **said):
        table = pd.DataFrame({"id": PEOPLE, "file": [f"{one}.txt" for one in PEOPLE]})
        table["ill"] = np.arange(len(PEOPLE)) % 2
        for row, cell in (cells or {}).items():
            table.loc[row, "file"] = cell
        table.to_csv(home / "people.csv", index=False)
        tree = {
            "schema": "medmcl/cohort@1",
            "subjects": {"table": "people.csv", "id": "id"},
            "modalities": {"note": {"reader": "text", "path": file}},
            "tasks": {"ill": {"kind": "binary", "column": "ill"}},
            **said,
        }
        (home / "cohort.yaml").write_text(yaml.safe_dump(tree))
        return home

    return write


@pytest.mark.parametrize(
    "cell",
    ["../elsewhere/passwords.txt", "/etc/passwd", "notes/../../../../../../../etc/passwd"],
)
def test_a_cell_leads_nobody_out(cohort, cell):
    inside = {n: f"notes/{person}.txt" for n, person in enumerate(PEOPLE)}
    with pytest.raises(CohortError, match=r"1 path of note lead(.|\n)*subject p2") as refused:
        open_cohort(cohort("{file}", {**inside, 2: cell}))
    assert "hunter2" not in str(refused.value)
    assert "roots: [" in str(refused.value)


def test_a_cell_may_name_folders_inside(cohort):
    opened = open_cohort(
        cohort("{file}", {n: f"notes/../notes/{p}.txt" for n, p in enumerate(PEOPLE)})
    )
    assert len(opened.records["note"]) == len(PEOPLE)


def test_a_folder_that_is_allowed_by_name_may_be_led_to(cohort):
    cells = {n: f"../elsewhere/{person}.txt" for n, person in enumerate(PEOPLE)}
    with pytest.raises(CohortError, match="6 paths of note lead out") as refused:
        open_cohort(cohort("{file}", cells))
    roots = yaml.safe_load(re.search(r"roots: (\[.*?\])", str(refused.value))[1])
    for opened in (
        open_cohort(cohort("{file}", cells, roots=roots)),
        open_cohort(cohort("{file}", cells, roots=["../elsewhere"])),
        open_cohort(cohort("{file}", cells), {"cohort.roots": roots}),
    ):
        assert len(opened.records["note"]) == len(PEOPLE)


def test_what_the_owner_writes_out_is_the_owners(cohort, tmp_path):
    for template in (f"{tmp_path}/elsewhere/{{id}}.txt", "../elsewhere/{id}.txt"):
        assert len(open_cohort(cohort(template)).records["note"]) == len(PEOPLE)
    with pytest.raises(CohortError, match="lead out"):
        open_cohort(cohort(f"{tmp_path}/elsewhere/{{file}}", {0: "../cohort/../../x.txt"}))


LINKS = {
    "of a file": ("cohort/notes/p2.txt", "elsewhere/p2.txt", "1 path of note are links"),
    "of a link": ("cohort/notes/p2.txt", "chain", "1 path of note are links"),
    "of a folder": ("cohort/notes", "elsewhere", "6 paths of note are links"),
    "of the table": ("cohort/people.csv", "elsewhere/people.csv", "1 path of table people.csv"),
}


@pytest.mark.parametrize("name", LINKS)
def test_no_link_leads_out_unless_its_root_is_allowed_by_name(name, cohort, tmp_path):
    home, (place, target, told) = cohort(), LINKS[name]
    (tmp_path / "chain").symlink_to(tmp_path / "elsewhere" / "p2.txt")
    (home / "people.csv").rename(tmp_path / "elsewhere" / "people.csv")
    (home / "people.csv").write_bytes((tmp_path / "elsewhere" / "people.csv").read_bytes())
    (tmp_path / place).rename(tmp_path / "away")
    (tmp_path / place).symlink_to(tmp_path / target)
    with pytest.raises(CohortError, match=told) as refused:
        open_cohort(home)
    roots = yaml.safe_load(re.search(r"roots: (\[.*?\])", str(refused.value))[1])
    assert roots == [str(tmp_path / "elsewhere")]
    opened = open_cohort(home, {"cohort.roots": roots})
    assert len(opened.records["note"]) == len(PEOPLE)
    assert not [f for f in check_cohort(opened) if f.level == "error"]


def test_a_link_within_the_data_root_is_followed_and_the_root_may_be_one(cohort, tmp_path):
    home = cohort()
    (home / "annex").mkdir()
    for person in PEOPLE:
        (home / "notes" / f"{person}.txt").rename(home / "annex" / person)
        (home / "notes" / f"{person}.txt").symlink_to(f"../annex/{person}")
    (tmp_path / "linked").symlink_to(home)
    for opened in (open_cohort(home), open_cohort(tmp_path / "linked"),
                   open_cohort(home, data_root=tmp_path / "linked")):  # fmt: skip
        assert not [f for f in check_cohort(opened) if f.level == "error"]


@pytest.mark.parametrize("many", [False, True])
def test_a_folder_above_that_is_a_link_is_looked_through(many, cohort, tmp_path):
    """``notes/../x``: the system goes up from where the link leads, not from where it stands."""
    home = cohort()
    (tmp_path / "elsewhere" / "deep").mkdir()
    (home / "down").symlink_to(tmp_path / "elsewhere" / "deep")
    cells = dict.fromkeys(range(6 if many else 1), "down/../passwords.txt")
    inside = {n: f"notes/{person}.txt" for n, person in enumerate(PEOPLE)}
    with pytest.raises(CohortError, match="of note are links out"):
        open_cohort(cohort("{file}", {**inside, **cells}))


NO_FILES = ["~/x.txt", "$HOME/x.txt", "file:///etc/passwd", "\\\\server\\share\\x.txt",
            "..\\elsewhere\\passwords.txt", "\uff0e\uff0e/elsewhere/passwords.txt",
            "%2e%2e/elsewhere/passwords.txt", "NOTES/P0.TXT/", "notes", "http://localhost/x",
            "notes/p0.txt/../../../elsewhere/passwords.txt", "x" * 300]  # fmt: skip


@pytest.mark.parametrize("cell", NO_FILES)
def test_a_cell_is_a_name_and_nothing_else(cell, cohort):
    """No home, variable, address, drive, code or look-alike is understood."""
    inside = {n: f"notes/{person}.txt" for n, person in enumerate(PEOPLE)}
    opened, findings = load_cohort(cohort("{file}", {**inside, 2: cell}))
    findings = [*findings, *(() if opened is None else check_cohort(opened))]
    errors = [str(one) for one in findings if one.level == "error"]
    assert errors, cell
    assert not any("hunter2" in one or "root:x" in one for one in errors)


def test_a_null_byte_is_no_name(cohort):
    home = cohort("{file}")
    table = pd.read_csv(home / "people.csv")
    table.loc[2, "file"] = "notes/p0.txt\0.png"
    table.to_parquet(home / "people.parquet")
    tree = yaml.safe_load((home / "cohort.yaml").read_text())
    tree["subjects"]["table"] = "people.parquet"
    (home / "cohort.yaml").write_text(yaml.safe_dump(tree))
    with pytest.raises(CohortError, match="a name with a null byte"):
        open_cohort(home)


def pipe(path):
    os.mkfifo(path)


def device(path):
    path.symlink_to("/dev/zero")


def listening(path):
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


@pytest.mark.parametrize("make", [pipe, device, listening])
@pytest.mark.parametrize("what", ["notes/p2.txt", "people.csv"])
def test_what_is_no_file_hangs_nobody(make, what, cohort, monkeypatch):
    """A reader of a pipe would wait for ever, and one of /dev/zero take all memory."""
    home = cohort()
    (home / what).unlink()
    monkeypatch.chdir((home / what).parent)  # the name of a socket is short
    make((home / what).relative_to((home / what).parent))
    with pytest.raises(CohortError, match=r"is a (named pipe|device|socket)|are links out"):
        open_cohort(home)
    with pytest.raises(CohortError, match=r"is a (named pipe|device|socket)"):
        open_cohort(home, {"cohort.roots": ["/"]})


def test_files_beside_a_record_are_looked_at_too(tmp_path):
    """The header of an ECG names its signal file; both may be links, or turn into one later."""
    (tmp_path / "ecg").mkdir()
    (tmp_path / "secret.dat").write_bytes(bytes(4000))
    header = tmp_path / "ecg" / "a.hea"
    header.write_text("a 1 500 1000\na.dat 16 1000/mV 16 0 0 0 0 I\n")
    (tmp_path / "ecg" / "a.dat").symlink_to(tmp_path / "secret.dat")
    adapter = ADAPTERS["ecg"](ECGSource(reader="wfdb", leads=["I"]), ECGSettings())
    for roots, told in ((below([tmp_path / "ecg"]), True), (below([tmp_path]), False), ((), False)):
        place = RecordRef(
            subject="a", record="a", paths={"path": tmp_path / "ecg" / "a"}, roots=roots
        )
        raw, findings = read_record(adapter, place)
        assert (raw is None) == told
        assert any("leads out of the folders" in one.what for one in findings) == told
    (tmp_path / "ecg" / "a.dat").unlink()
    os.mkfifo(tmp_path / "ecg" / "a.dat")
    raw, (finding,) = read_record(adapter, place)
    assert "is a named pipe" in finding.what
