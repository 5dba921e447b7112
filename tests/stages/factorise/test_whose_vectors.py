"""Vectors of one cohort are not laid over people of another who are called alike."""

import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import medmcl
from medmcl.core.errors import ConfigError
from medmcl.encoders.published.overlap import MARK
from medmcl.evaluation.protocol.evidence import UNKNOWN_ENCODER
from medmcl.evaluation.protocol.results import Result
from medmcl.stages.evaluate.overlap import mark_seen
from medmcl.stages.factorise.given_vectors import lay_vectors
from medmcl.stages.recipe.settings import with_settings
from medmcl.stages.run.embedding import marks_of, provenance_of_table
from medmcl.stages.run.outputs import PROVENANCE, write_table


@pytest.fixture(scope="module")
def hospitals(tmp_path_factory):
    """Two hospitals with equal ids, and a copy of the first under a third name."""
    folder = tmp_path_factory.mktemp("hospitals")
    for seed, name in enumerate(("a", "b")):
        medmcl.simulate("heart", folder / name, {"subjects": 8, "seed": seed})
    shutil.copytree(folder / "a", folder / "c")
    return folder


def vectors(hospitals, file, **changes):
    """A table of vectors of hospital a, as `medmcl embed` writes it."""
    cohort = medmcl.open_cohort(hospitals / "a")
    records = cohort.records["ecg"]
    said = {"cohort": "a", "cohort_fingerprint": cohort.fingerprint,
            "records": marks_of(records), "made_by": {"seen": {"ukb": ""}}}  # fmt: skip
    table = pd.DataFrame({"e0": np.arange(len(records)), "e1": 1.0})
    table.index = pd.MultiIndex.from_arrays(
        [records["subject"], records.index], names=["subject", "record"]
    )
    table.attrs[PROVENANCE] = {**said, **changes}
    write_table(table, file)
    return file


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_other_people_of_the_same_ids_are_refused(suffix, hospitals, tmp_path):
    file = vectors(hospitals, tmp_path / f"x.{suffix}")
    b, c = (medmcl.open_cohort(hospitals / name) for name in ("b", "c"))
    with pytest.raises(ConfigError, match="of another cohort, a: people who are called alike"):
        lay_vectors("x", file, b)
    assert lay_vectors("x", file, c).present.any()  # a copy, whatever it is called
    assert provenance_of_table(file)["made_by"]["seen"] == {"ukb": ""}


def test_without_marks_the_name_or_the_tables_tell(hospitals, tmp_path):
    file = vectors(hospitals, tmp_path / "x.parquet", records=[])
    for name in ("a", "c"):
        assert lay_vectors("x", file, medmcl.open_cohort(hospitals / name)).present.any()
    with pytest.raises(ConfigError, match="of another cohort"):
        lay_vectors("x", file, medmcl.open_cohort(hospitals / "b"))


def test_a_cohort_that_was_edited_keeps_its_vectors(hospitals, tmp_path):
    file = vectors(hospitals, tmp_path / "x.parquet")
    edited = tmp_path / "a"
    shutil.copytree(hospitals / "a", edited)
    file_of = edited / "cohort.yaml"
    file_of.write_text(file_of.read_text().replace("simulated hearts", "looked at again"))
    assert not any("other files" in one for one in lay_vectors(
        "x", file, medmcl.open_cohort(edited)).notes)  # fmt: skip
    for one in edited.rglob("*.dat"):
        one.write_bytes(one.read_bytes()[::-1])
    (note,) = [one for one in lay_vectors("x", file, medmcl.open_cohort(edited)).notes
               if "other files" in one]  # fmt: skip
    assert note.startswith("x: made of other files of these records")


def test_what_stands_beside_a_text_table_is_of_that_table(hospitals, tmp_path, caplog):
    file = vectors(hospitals, tmp_path / "x.csv")
    file.write_text(file.read_text().replace("0,1.0", "5,1.0"))
    for _ in range(2):
        assert provenance_of_table(file) == {}
    (said,) = caplog.messages
    assert f"{file}.medmcl.json: is not of x.csv as it is now" in said
    assert "not known whose vectors" in said


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "[]", "5", '{"of": 1}'])
def test_what_is_no_provenance_beside_a_text_table_is_told(hospitals, tmp_path, caplog, text):
    file = vectors(hospitals, tmp_path / "x.csv")
    (tmp_path / "x.csv.medmcl.json").write_text(text)
    assert provenance_of_table(file) == {}
    assert f"{file}.medmcl.json: is " in caplog.text


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
@pytest.mark.parametrize(
    "changes",
    [
        *({"made_by": made_by} for made_by in (
            5, None, [1], {"seen": 5}, {"seen": {"ukb": 5}}, {"seen": {}, "clean": [[]]},
            {"published": 5}, {"published": {"ecg": 5}},
        )),
        *({"records": records} for records in (5, [1, 2], [["a"]], [[{}, {}, {}]], {"a": 1})),
        {"cohort": []},
        {"cohort_fingerprint": {}},
    ],
    ids=str,
)  # fmt: skip
def test_a_provenance_of_another_form_is_told_and_says_nothing(
    hospitals, tmp_path, caplog, suffix, changes
):
    file = vectors(hospitals, tmp_path / f"x.{suffix}", **changes)
    laid = lay_vectors("x", file, medmcl.open_cohort(hospitals / "a"))
    assert laid.present.any()
    assert laid.fitted.note == UNKNOWN_ENCODER
    assert "is not as medmcl writes it" in caplog.text


def test_vectors_that_a_recipe_names_are_marked_like_those_of_a_command(hospitals, tmp_path):
    file = vectors(hospitals, tmp_path / "x.parquet")
    spec = with_settings({"stage": "evaluate", "name": "r", "embeddings": {"x": str(file)}}, {})
    row = Result(
        task="t",
        target="t",
        method="x",
        protocol="knn",
        metric="auroc",
        value=0.5,
        kind="binary",
        direction="higher",
    )
    told = SimpleNamespace(notes=[], results=[row, replace(row, method="y")])
    mark_seen(told, spec, SimpleNamespace(stages={}), "ukb")
    assert [MARK in row.note for row in told.results] == [True, False]
    assert told.notes[0] == f"{MARK}: trained on ukb (x)"
