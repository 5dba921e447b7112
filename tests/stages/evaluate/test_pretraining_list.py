"""Lists of what a model was pretrained on: who of them is scored, by id and by content."""

import os
import re
from pathlib import Path

import pandas as pd
import pytest
import yaml

from medmcl.core.errors import ConfigError
from medmcl.data.cohort.cohort import open_cohort
from medmcl.encoders.published.card import find_variant
from medmcl.encoders.published.overlap import SEEN, Overlap
from medmcl.stages.benchmark.benchmark import Benchmark
from medmcl.stages.benchmark.board import read_board
from medmcl.stages.benchmark.suite import read_suite
from medmcl.stages.evaluate.evaluate import evaluate
from medmcl.stages.evaluate.overlap import search_lists, seen_before
from medmcl.stages.evaluate.pretraining_list import ListSearch, _forms, with_list
from tests.support.cinc2021 import read_record, write_challenge, write_record

HELD = {"cohort.subjects.split": {"column": "source", "held_out": ["georgia"], "tuning_share": 0.2}}


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    root = tmp_path_factory.mktemp("scored")
    write_challenge(root, people=16)
    return root


@pytest.fixture(scope="module")
def cohort(scored):
    return open_cohort("cinc2021", HELD, data_root=scored)


@pytest.fixture(scope="module")
def pretraining(scored, tmp_path_factory):
    """Four records of other names: one equal to E00003, one E00005 saved anew, two of others."""
    folder = tmp_path_factory.mktemp("pretraining")
    other = tmp_path_factory.mktemp("others")
    write_challenge(other, people=2, sources={"ptb": ("S", 125)}, seed=9)
    taken = {"x1": "georgia/g1/E00003", "x2": "georgia/g1/E00005"}
    for name, source in taken.items():
        rate, signal = read_record(scored / source)
        if name == "x2":  # in steps of 5 uV, another gain
            signal = (signal * 200).round() / 200 * 1.04
        write_record(folder / name, rate, ["1"], signal)
    for name in ("S00000", "S00001"):
        rate, signal = read_record(other / "ptb" / "g1" / name)
        write_record(folder / name, rate, ["1"], signal)
    return folder


def found(cohort, *lists):
    search = ListSearch.of(lists)
    return search.found(["mine"], cohort, "ecg")["mine"]


def test_copies_of_records_are_found_whatever_they_are_called(cohort, pretraining):
    one = found(cohort, str(pretraining))
    assert one.status == "seen"
    assert "2 of 16 people scored" in one.said
    assert "(4 entries): 1 with an equal record, 1 with a near copy of one" in one.said


def test_a_list_may_be_a_cohort(cohort, pretraining):
    tree = {
        "schema": "medmcl/cohort@1",
        "subjects": {"table": "*.hea", "id": "stem"},
        "modalities": {"signals": {"reader": "wfdb", "path": "{file}"}},
    }
    (pretraining / "cohort.yaml").write_text(yaml.safe_dump(tree))
    assert "2 of 16 people scored" in found(cohort, str(pretraining)).said
    (pretraining / "cohort.yaml").unlink()


@pytest.mark.parametrize(
    ("name", "text", "people"),
    [
        ("a.txt", "training/georgia/g1/E00001\nE00002.hea\nA00001\n", 2),  # A00001 is not scored
        ("b.csv", "subject_id,note\nE00001,x\nS77,x\n", 1),
        ("c.csv", "stem\nE00001\nE00004\nE00004\n", 2),  # as the cohort calls its people
        ("d.tsv", "record\nE99999\n", 0),
        ("e.csv", "record\ntraining/georgia/g1/E00001\ng1/E00002.mat\nE00003\n", 3),
        ("f.txt", "E00001,A00001;E00002", 2),
        ("RECORDS", "\ufeffg1/E00001\n", 1),
    ],
)
def test_ids_are_a_table_or_a_text(name, text, people, cohort, tmp_path):
    (tmp_path / name).write_text(text)
    one = found(cohort, str(tmp_path / name))
    assert one.status == ("seen" if people else "not seen")
    assert (f"{people} by id" if people else "none of 16 people scored") in one.said


@pytest.mark.parametrize(
    ("text", "shown"),
    [("JS0001\nHR1\n", "HR1"), ("records500/E00001_hr\n", "E00001_hr"), ("1\n2\n", "1")],
)
def test_a_list_of_names_that_are_written_otherwise_shows_nothing(text, shown, cohort, tmp_path):
    (tmp_path / "a.txt").write_text(text)
    one = found(cohort, str(tmp_path / "a.txt"))
    assert one.status == "not known"
    assert f"shows nothing: its ids are written as '{shown}', not as '" in one.said
    unknown, clean = Overlap("not known", "ledger"), Overlap("not seen", "ledger")
    assert with_list(unknown, one).status == "not known"
    assert with_list(clean, one).status == "not seen"
    (tmp_path / "b.csv").write_text("subject\nE00001\n")
    both = found(cohort, str(tmp_path / "a.txt"), str(tmp_path / "b.csv"))
    assert both.status == "seen"


def test_a_folder_of_which_hardly_a_record_can_be_read_shows_little(cohort, pretraining, tmp_path):
    for file in pretraining.glob("S00000.*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    assert found(cohort, str(tmp_path)).status == "not seen"
    for name in ("a", "b"):
        (tmp_path / f"{name}.hea").write_text(f"{name} 12 500 5000\n")
    one = found(cohort, str(tmp_path))
    assert (one.status, "2 of 3 cannot be read" in one.said) == ("not known", True)


@pytest.mark.parametrize(
    ("one", "own", "is_alike"),
    [("21837_lr", "00017_lr", True), ("21837_hr", "00017_lr", False), ("21837", "5", True),
     ("00012", "12", False), ("12", "00012", False), ("p10", "s10", False),
     ("02aa804e-bde0afdd-112c0b34", "7bc16630-4e384014-aaaaaaaa", True)],
)  # fmt: skip
def test_names_of_one_form(one, own, is_alike):
    assert (_forms([one], [own]) == _forms([own], [own])) is is_alike


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("blank.txt", "the list is empty"),
        ("header.csv", "the list is empty"),
        ("utf16.txt", "iconv -f UTF-16"),
        ("latin.txt", "iconv -f CP1252"),
        ("nowhere", "no such list"),
        ("no_ids.csv", "no column of people or records"),
        ("empty", "no record of the list can be read"),
    ],
)
def test_a_list_that_says_nothing_is_refused(what, said, cohort, tmp_path):
    (tmp_path / "no_ids.csv").write_text("age\n3\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "blank.txt").write_text(" \n")
    (tmp_path / "header.csv").write_text("record,subject\n")
    (tmp_path / "utf16.txt").write_text("E00001\n", encoding="utf-16")
    (tmp_path / "latin.txt").write_text("Müller\n", encoding="latin-1")
    with pytest.raises(ConfigError, match=said):
        found(cohort, str(tmp_path / what))


def test_what_a_list_shows_goes_before_nothing_that_is_known():
    seen, clean = Overlap("seen", "list"), Overlap("not seen", "list")
    unknown, other = Overlap("not known", "ledger"), Overlap("other parts seen", "ledger")
    assert with_list(unknown, None) is unknown
    assert with_list(unknown, clean) == clean
    assert with_list(other, clean) == Overlap("other parts seen", "ledger; list")
    assert with_list(Overlap("seen", "ledger"), clean).status == "seen"
    assert with_list(other, seen).status == with_list(unknown, seen).status == "seen"


@pytest.fixture
def vectors(scored, tmp_path):
    names = [path.stem for path in scored.rglob("*.hea")]
    table = pd.DataFrame({"subject": names, "e0": range(len(names)), "e1": [len(n) for n in names]})
    table.to_csv(tmp_path / "theirs.csv", index=False)
    return tmp_path / "theirs.csv"


def test_benchmark_refuses_and_marks_vectors_whose_encoder_saw_who_is_scored(
    scored, pretraining, vectors, tmp_path
):
    given = {
        "suite": "cinc2021", "out": tmp_path / "board", "sites": ["georgia"], "device": "cpu",
        "embeddings": [f"theirs={vectors}"], "overrides": {"data_root": str(scored)},
        "protocols": ["linear_probe"], "label_fractions": [1.0],
        "pretrained_on": [f"theirs={pretraining}"], "command": "medmcl benchmark",
    }  # fmt: skip
    with pytest.raises(ConfigError, match="no evidence of transfer") as refused:
        Benchmark(**given).run()
    assert "2 of 16 people" in str(refused.value)
    Benchmark(**given, allow_overlap=True).run()
    rows = read_board(tmp_path / "board" / "leaderboard.json")
    assert all(("<5 of 16 people scored" in row.mark) == (row.name == "theirs") for row in rows)
    assert {row.overlap for row in rows if row.name == "theirs"} == {"seen"}
    page = (tmp_path / "board" / "leaderboard.md").read_text()
    assert re.search(
        r"NO EVIDENCE OF TRANSFER: pretrained on (&lt;|\\?<)5 of 16", page.split("## ")[0]
    )
    with pytest.raises(ConfigError, match="no model is called 'their'"):
        Benchmark(**{**given, "pretrained_on": [f"their={pretraining}"]}, overwrite=True).run()


def test_evaluate_refuses_and_marks_alike(scored, vectors, tmp_path):
    (tmp_path / "ids.txt").write_text("E00001\n")
    given = {
        "cohort": "cinc2021", "embeddings": [f"theirs={vectors}"], "device": "cpu",
        "overrides": {**HELD, "data_root": str(scored)},
        "pretrained_on": [str(tmp_path / "ids.txt")],
    }  # fmt: skip
    with pytest.raises(ConfigError, match="1 of 16 people scored"):
        evaluate(**given, out=tmp_path / "report")
    done = evaluate(**given, out=tmp_path / "report", allow_overlap=True)
    assert any("no evidence of transfer" in row.method for row in done.results)
    assert "1 of 16 people scored" in (tmp_path / "report" / "report.html").read_text()


def test_a_card_may_name_its_list_beside_it(monkeypatch, tmp_path):
    from medmcl.encoders.published import card
    from medmcl.encoders.published.card_files import CARDS

    shipped = card.read_card("st_mem")
    tree = {**yaml.safe_load((CARDS / "st_mem.yaml").read_text()), "pretrained_on": "ids.txt"}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(tree))
    monkeypatch.setattr(card, "card_files", lambda: {"mine": tmp_path / "mine.yaml"})
    card.read_card.cache_clear()
    assert card.read_card("mine").pretrained_on == tmp_path / "ids.txt"
    card.read_card.cache_clear()
    assert shipped.pretrained_on is None


def test_a_real_ecg_is_known_again_at_another_rate():
    root = Path(os.environ.get("MEDMCL_DATA", "none")) / "ptbxl"
    if not root.is_dir():
        pytest.skip("needs MEDMCL_DATA with ptbxl")
    ptbxl = read_suite("ptbxl")[1].open(overrides={"data_root": str(root)})
    one = found(ptbxl, str(root / "records500"))  # 27 records as PhysioNet has them, at 500 Hz
    assert "1 of 268 people scored" in one.said  # record 9, which is of fold 10
    assert "(27 entries): 1 with a near copy of one" in one.said


def test_models_are_judged_before_their_file_is_read_and_named_as_results_name_them(
    scored, cohort, tmp_path
):
    (tmp_path / "ids.txt").write_text("E00001\n")
    lists = [f"turgut_ecg={tmp_path / 'ids.txt'}"]
    overrides = {**HELD, "data_root": str(scored)}
    with pytest.raises(ConfigError, match="1 of 16 people scored"):
        evaluate(
            cohort="cinc2021", models=["turgut_ecg:none.pth"], out=tmp_path / "report",
            overrides=overrides, pretrained_on=lists,
        )  # fmt: skip
    assert not (tmp_path / "report").exists()
    judged = search_lists(lists, ["turgut_ecg:none.pth"], [], [], cohort, {})
    (name,) = judged
    model, variant = find_variant("turgut_ecg")
    assert name == f"{model.name}:{variant}"
    marked = seen_before({name: Path("x.csv")}, "sph", allow=True, listed=judged)
    assert list(marked) == [name + SEEN]
