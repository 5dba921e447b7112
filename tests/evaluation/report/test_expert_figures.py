"""The section on experts: there where a run has routers, with numbers that are those of the run."""

from __future__ import annotations

import re

import pytest
from made_experts import CONTENT, CURVES, line, signal_content

from medmcl.evaluation.report.data import ReportData
from medmcl.evaluation.report.expert_lines import expert_rows, share_rows
from medmcl.evaluation.report.files import report_rows
from medmcl.evaluation.report.gradient_figures import gradient_norms
from medmcl.evaluation.report.numbers import as_json
from medmcl.evaluation.report.sections import sections_of

PARTS = ("experts", "expert_shares", "expert_words", "expert_pieces")


DATA = ReportData(title="t", curves=CURVES, kept_steps={"contrast": 20}, experts=[CONTENT])


def section(data):
    return next((one for one in sections_of(data) if one.key == "experts"), None)


def test_a_run_without_routers_has_neither_section_nor_rows():
    data = ReportData(title="t", curves={"plain": CURVES["plain"]})
    assert section(data) is None
    assert not set(PARTS) & set(report_rows(data))


def test_every_line_block_and_modality_has_a_row():
    rows = expert_rows(CURVES)
    assert len(rows) == 6 * 2 * 2
    for row in rows:
        said = next(one for one in CURVES["contrast"]
                    if (one["step"], one["split"]) == (row["step"], row["split"]))  # fmt: skip
        at = f"{row['modality']}/{row['block']}"
        for measure in ("effective", "mutual_information", "used", "dropped"):
            assert row[measure] == said[f"experts/{measure}/{at}"]
        assert row["tokens"] == said[f"experts/tokens/{row['modality']}"]
    assert {row["modality"] for row in rows} == {"image", "free/text"}


@pytest.mark.parametrize(
    ("kept", "step"), [({"contrast": 20}, 20), ({}, 30), ({"contrast": 7}, 30)]
)
def test_shares_are_of_the_kept_weights_on_the_tuning_split(kept, step):
    rows = share_rows(CURVES, kept)
    want = next(one for one in CURVES["contrast"]
                if (one["step"], one["split"]) == (step, "tuning"))  # fmt: skip
    assert len(rows) == 2 * 2 * 4
    for row in rows:
        assert (row["step"], row["split"]) == (step, "tuning")
        at = f"experts/share/{row['modality']}/{row['block']}"
        assert row["share"] == want[at][row["expert"]]
    lone = {"contrast": [one for one in CURVES["contrast"] if one["split"] == "train"]}
    assert {(row["step"], row["split"]) for row in share_rows(lone, kept)} == {(30, "train")}


def test_the_section_shows_shares_curves_words_and_pieces():
    pictures = section(DATA).pictures
    shares, curves, words, pieces = pictures
    assert "step 20" in shares.aid
    assert shares.rows[0][:3] == ("1", "image", "0")
    assert "image: 73.3% processed, 3.0 experts in use, 1.3 effective" in curves.alt
    assert words.rows[0] == ("0", "<b>cross", "40", "40.0%", "80.0%", "2.5")
    assert "Not named: 17" in words.aid
    assert "recipe asks" in pieces.aid
    for picture in pictures:
        assert re.search(r"\d", picture.alt)
        assert picture.aid.endswith(".")
        assert {len(row) for row in picture.rows} == {len(picture.header)}


def test_files_hold_numbers_and_no_pixels():
    rows = report_rows(DATA)
    assert set(PARTS) <= set(rows)
    assert rows["expert_words"][1] == {
        "stage": "contrast", "block": 3, "split": "tuning", "modality": "note", "expert": 2,
        "word": "star", "tokens": 9, "of_expert": 0.9, "of_word": 0.5, "lift": 3.0,
    }  # fmt: skip
    assert set(rows["expert_pieces"][0]) == {
        "stage", "block", "split", "modality", "expert", "gate", "grid_row", "grid_column"
    }  # fmt: skip
    assert "pixels" not in str(as_json(DATA))


def test_many_experts_blocks_and_traces_of_signals_can_be_drawn():
    many = {"contrast": [line(s, "tuning", range(1, 32, 2), 64) for s in range(3)]}
    data = ReportData(title="t", curves=many, experts=[signal_content()])
    _, curves, words, pieces = section(data).pictures
    assert {row[1] for row in curves.rows} == {"tuning"}
    assert "8 more experts" in words.aid
    assert "II, V1, V5" in pieces.aid


def test_gradient_norms_name_spikes_and_skipped_steps():
    picture = gradient_norms(CURVES)
    assert picture.rows == (("contrast", "2.000", "60.000", "1", "1"),)
    assert "1 spikes" in picture.alt
    assert gradient_norms({"plain": CURVES["plain"]}) is None
    nothing = [line(10, "train", largest_gradient_norm=None)]
    assert gradient_norms({"s": nothing}) is None
