"""No cell of a table leads a reader out of the folders that cohort.yaml names."""

import re

import numpy as np
import pandas as pd
import pytest
import yaml

from medmcl.core.errors import CohortError
from medmcl.data.cohort.cohort import open_cohort

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
