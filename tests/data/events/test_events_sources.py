"""OMOP, Synthea and notes as events, on small samples written here."""

import gzip

import pandas as pd
import pyarrow as pa
import pytest

from medmcl.core.errors import CohortError
from medmcl.data.events.exports import omop_tables, synthea_tables
from medmcl.data.events.lexicon import Lexicon, Notes, read_lexicon
from medmcl.data.events.tables import EventTable, read_events

PERSON_1 = {"person_id": 1, "visit_occurrence_id": 11}
OMOP = {
    "condition_occurrence": [
        {**PERSON_1, "condition_concept_id": 201826, "condition_start_date": "2020-01-01"},
        {"person_id": 2, "condition_concept_id": 0, "condition_start_date": "2020-01-02"},
    ],
    "drug_exposure": [
        {**PERSON_1, "drug_concept_id": 1503297, "drug_exposure_start_date": "2020-01-01"}
    ],
    "procedure_occurrence": [
        {"person_id": 2, "procedure_concept_id": 4230911, "procedure_date": "2020-01-03"}
    ],
    "measurement": [
        {"person_id": 2, "measurement_concept_id": 3004410, "measurement_date": "2020-01-03"}
    ],
    "observation": [
        {"person_id": 2, "observation_concept_id": 4275495, "observation_date": "2020-01-03"}
    ],
    "note": [
        {**PERSON_1, "note_id": 900, "note_date": "2020-01-05", "note_text": "long\ntext"},
        {"person_id": 2, "note_id": 901, "note_date": "2020-02-05", "note_text": "x"},
    ],
    "note_nlp": [
        {"note_nlp_id": 1, "note_id": 900, "note_nlp_concept_id": 316866, "term_exists": "Y"},
        {"note_nlp_id": 2, "note_id": 900, "note_nlp_concept_id": 77670, "term_exists": "N"},
        {"note_nlp_id": 3, "note_id": 901, "note_nlp_concept_id": 77670, "term_exists": None},
        {"note_nlp_id": 4, "note_id": 901, "note_nlp_concept_id": 0, "term_exists": "Y"},
    ],
    "person": [{"person_id": 1}, {"person_id": 2}],
}


def write_omop(folder, kind="csv", *, capitals=False):
    for name, rows in OMOP.items():
        frame = pd.DataFrame(rows)
        if capitals:
            frame.columns = frame.columns.str.upper()
        path = folder / f"{name.upper() if capitals else name}.{kind}"
        frame.to_parquet(path) if kind == "parquet" else frame.to_csv(path, index=False)


def read(tables):
    return {
        table.name: [
            (row["subject"], str(row["time"])[:10], row["code"], row["visit"])
            for row in pa.concat_tables(read_events(table)).to_pylist()
        ]
        for table in tables
    }


@pytest.mark.parametrize("capitals", [False, True])
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_omop_tables_and_notes(tmp_path, kind, capitals):
    write_omop(tmp_path, kind, capitals=capitals)
    found = read(omop_tables(tmp_path))
    assert found["condition_occurrence"] == [("1", "2020-01-01", "OMOP//201826", "11")]
    assert found["drug_exposure"] == [("1", "2020-01-01", "OMOP//1503297", "11")]
    assert found["measurement"] == [("2", "2020-01-03", "OMOP//3004410", None)]
    assert found["note_nlp"] == [
        ("1", "2020-01-05", "OMOP//316866", "11"), ("2", "2020-02-05", "OMOP//77670", None),
    ]  # fmt: skip
    assert "note" not in found


def test_notes_of_omop_need_no_visits(tmp_path):
    write_omop(tmp_path)
    notes = pd.DataFrame(OMOP["note"]).drop(columns="visit_occurrence_id")
    notes.to_csv(tmp_path / "note.csv", index=False)
    found = read(omop_tables(tmp_path, ["note_nlp"]))
    assert [row[3] for row in found["note_nlp"]] == [None, None]


def test_missing_omop_tables_are_named(tmp_path):
    with pytest.raises(CohortError, match="holds no OMOP table"):
        omop_tables(tmp_path)
    write_omop(tmp_path)
    (tmp_path / "note.csv").unlink()
    with pytest.raises(CohortError, match="no OMOP table note"):
        omop_tables(tmp_path)
    with pytest.raises(ValueError, match="did you mean 'measurement'"):
        omop_tables(tmp_path, ["measurements"])


SYNTHEA = {
    "patients": "Id,BIRTHDATE,DEATHDATE\np1,1950-01-01,\n",
    "conditions": "START,STOP,PATIENT,ENCOUNTER,SYSTEM,CODE,DESCRIPTION\n"
    "2019-05-01,,p1,e1,http://snomed.info/sct,44054006,Diabetes mellitus type 2 (disorder)\n",
    "medications": "START,STOP,PATIENT,PAYER,ENCOUNTER,CODE,DESCRIPTION,BASE_COST\n"
    "2019-05-01T10:00:00Z,,p1,x,e1,860975,24 HR Metformin 500 MG,1\n",
    "procedures": "{time},PATIENT,ENCOUNTER,CODE,DESCRIPTION,BASE_COST\n"
    "2019-05-01T10:00:00Z,p1,e1,73761001,Colonoscopy,1\n",
    "observations": "DATE,PATIENT,ENCOUNTER,CATEGORY,CODE,DESCRIPTION,VALUE,UNITS,TYPE\n"
    "2019-05-01T10:00:00Z,p1,,vital-signs,8302-2,Body Height,176.3,cm,numeric\n",
}


@pytest.mark.parametrize("time", ["START", "DATE"])
@pytest.mark.parametrize("suffix", ["csv", "csv.gz"])
def test_synthea_csv(tmp_path, time, suffix):
    for name, text in SYNTHEA.items():
        opened = gzip.open if suffix == "csv.gz" else open
        with opened(tmp_path / f"{name}.{suffix}", "wt") as file:
            file.write(text.replace("{time}", time))
    tables = synthea_tables(tmp_path)
    assert read(tables) == {
        "conditions": [("p1", "2019-05-01", "SNOMED//44054006", "e1")],
        "medications": [("p1", "2019-05-01", "RXNORM//860975", "e1")],
        "procedures": [("p1", "2019-05-01", "SNOMED//73761001", "e1")],
        "observations": [("p1", "2019-05-01", "LOINC//8302-2", None)],
    }
    (row,) = pa.concat_tables(read_events(tables[-1])).to_pylist()
    assert (row["value"], row["description"]) == ("176.3", "Body Height")
    with pytest.raises(CohortError, match=r"no table devices\.csv"):
        synthea_tables(tmp_path, ["devices"])


TERMS = {
    "diabetes": "DM", "type 2 diabetes": "DM2", "Diabetes mellitus, type 2": "DM2",
    "chest pain": "CP", "pain": "PAIN", "fever": "FEVER", "pneumonia": "PNA",
    "Diabetes mellitus": "DM", "Brustschmerz": "CP", "Fieber": "FEVER", "Lungenembolie": "PE",
}  # fmt: skip


def found(text, **more):
    return [("-" if one.negated else "") + one.concept for one in Lexicon(TERMS, **more).find(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Known TYPE 2 DIABETES.", ["DM2"]),  # the longest, capitals aside
        ("type-2 diabetes", ["DM2"]),
        ("diabetes mellitus, type 2", ["DM2"]),
        ("type 2. Diabetes", ["DM"]),  # not across sentences
        ("prediabetes, painful, diabetess", []),  # whole words
        ("Denies chest\npain.", ["-CP"]),
        ("Denies chest pain but has fever.", ["-CP", "FEVER"]),
        ("Denies chest pain. Fever since Monday.", ["-CP", "FEVER"]),
        ("No fever or chest pain", ["-FEVER", "-CP"]),
        ("no a b c d e f fever", ["FEVER"]),  # out of reach
        ("no a b c d e fever", ["-FEVER"]),
        ("Pneumonia was ruled out.", ["-PNA"]),
        ("Pneumonia not ruled out.", ["PNA"]),
        ("no increase of fever", ["FEVER"]),
        ("Not only fever", ["FEVER"]),
        ("Kein Fieber, kein Brustschmerz.", ["-FEVER", "-CP"]),
        ("Kein Fieber, aber Brustschmerz", ["-FEVER", "CP"]),
        ("Lungenembolie ausgeschlossen", ["-PE"]),
        ("Lungenembolie nicht ausgeschlossen", ["PE"]),
        ("Nicht nur Fieber", ["FEVER"]),
        ("Z. n. Lungenembolie", ["PE"]),
        ("no cough\n\nfever", ["FEVER"]),
        ("- no cough\n- fever", ["FEVER"]),
        ("", []),
    ],
)
def test_terms_and_denials(text, expected):
    assert found(text) == expected


def test_a_language_can_be_left_out():
    assert found("Kein Fieber", languages=("en",)) == ["FEVER"]
    with pytest.raises(ValueError, match="unknown language 'fr'"):
        found("x", languages=("fr",))


def test_places_are_those_in_the_text():
    text = "He has  type 2\ndiabetes."
    (one,) = Lexicon(TERMS).find(text)
    assert text[one.begin : one.end] == "type 2\ndiabetes"


def test_a_lexicon_that_contradicts_itself_is_refused(tmp_path):
    path = tmp_path / "lexicon.csv"
    path.write_text("term,concept\nfever,C1\nFEVER,C2\n")
    with pytest.raises(CohortError, match="means two concepts"):
        read_lexicon(path)
    path.write_text("term,concept\nfever,\n")
    with pytest.raises(CohortError, match="is not whole"):
        read_lexicon(path)
    path.write_text("term,concept\n--,C1\n")
    with pytest.raises(CohortError, match="has no word"):
        read_lexicon(path)


def test_notes_become_concepts(tmp_path):
    (tmp_path / "notes.jsonl").write_text(
        '{"p": "1", "d": "2020-01-01", "e": "v", "t": "Fever and chest pain. Fever. No diabetes."}'
        '\n{"p": "2", "d": "2020-01-02", "e": "w", "t": null}\n'
    )
    columns = {"subject": "p", "time": "d", "visit": "e", "text": "t"}
    table = EventTable(path=tmp_path / "notes.jsonl", name="notes", columns=columns)
    notes = Notes(table, Lexicon(TERMS), "CUI//")
    rows = pa.concat_tables(notes.events()).to_pylist()
    assert [r["code"] for r in rows] == ["CUI//FEVER", "CUI//CP", "CUI//FEVER"]
    assert {(r["subject"], r["visit"], r["text"]) for r in rows} == {("1", "v", None)}
    read_ = notes.read
    assert (read_.notes, read_.without_text, read_.found, read_.negated) == (2, 1, 4, 1)
