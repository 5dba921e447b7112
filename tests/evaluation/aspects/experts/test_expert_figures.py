"""The section on experts: there where a run has routers, with numbers that are those of the run."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from made_experts import CURVES, line

from medmcl.evaluation.aspects.experts.figures import routing_curves, share_picture
from medmcl.evaluation.aspects.experts.lines import (
    evenness,
    expert_rows,
    kept_rows,
    share_rows,
)
from medmcl.evaluation.protocol.evaluation import Evaluation
from medmcl.evaluation.report import figures, pictures
from medmcl.evaluation.report.files import report_rows
from medmcl.evaluation.report.sections import sections_of
from medmcl.evaluation.report.training import gradient_figures
from medmcl.evaluation.report.training.gradient_figures import gradient_norms

PARTS = ("experts", "expert_shares")


DATA = Evaluation(title="t", curves=CURVES, kept_steps={"contrast": 20})


def section(data):
    return next((one for one in sections_of(data) if one.key == "experts"), None)


def test_a_run_without_routers_has_neither_section_nor_rows():
    data = Evaluation(title="t", curves={"plain": CURVES["plain"]})
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
    rows = share_rows(kept_rows(CURVES, kept))
    want = next(one for one in CURVES["contrast"]
                if (one["step"], one["split"]) == (step, "tuning"))  # fmt: skip
    assert len(rows) == 2 * 2 * 4
    for row in rows:
        assert (row["step"], row["split"]) == (step, "tuning")
        at = f"experts/share/{row['modality']}/{row['block']}"
        assert row["share"] == want[at][row["expert"]]
    lone = {"contrast": [one for one in CURVES["contrast"] if one["split"] == "train"]}
    assert {(row["step"], row["split"]) for row in kept_rows(lone, kept)} == {(30, "train")}


def test_the_section_shows_shares_and_curves(legends_beside):
    pictures = section(DATA).pictures
    assert legends_beside() >= 1  # of the curves; the sections beside it are drawn too
    shares, curves = pictures
    assert "step 20" in shares.aid
    assert shares.rows[0][:3] == ("1", "image", "0")
    assert "image: 73.3% processed, 3.0 experts in use, 1.3 effective" in curves.alt
    for picture in pictures:
        assert re.search(r"\d", picture.alt)
        assert picture.aid.endswith(".")
        assert {len(row) for row in picture.rows} == {len(picture.header)}


def test_files_hold_the_numbers():
    assert set(PARTS) <= set(report_rows(DATA))


def test_many_experts_and_blocks_can_be_drawn():
    many = {"contrast": [line(s, "tuning", range(1, 32, 2), 64) for s in range(3)]}
    _, curves = section(Evaluation(title="t", curves=many)).pictures
    assert {row[1] for row in curves.rows} == {"tuning"}


def routed(sharp, modality_wide=0.0, tokens=400, experts=8):
    """A line of the record of one block, from gates; with the slow mean entropy of them."""
    rng = np.random.default_rng(0)
    logits = sharp * rng.normal(size=(tokens, experts)) + modality_wide * np.eye(experts)[0]
    gates = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    entropy = np.mean([-sum(p * math.log(p) for p in row) for row in gates])
    mean = gates.mean(0)
    among = -sum(p * math.log(p) for p in mean)
    return {
        "split": "tuning", "step": 5, "experts/effective/note/1": math.exp(among),
        "experts/mutual_information/note/1": among - entropy,
        "experts/share/note/1": np.eye(experts)[gates.argmax(1)].mean(0).tolist(),
    }, entropy  # fmt: skip


@pytest.mark.parametrize(
    ("sharp", "wide", "said"),
    [
        (0.1, 0.0, "gates are nearly even: which expert is first means little."),
        (0.1, 5.0, "the tokens of a modality have nearly the same gates"),
        (3.0, 0.0, None),
    ],
)
def test_the_information_stands_beside_its_row_as_a_share_of_its_ceiling(sharp, wide, said):
    line, entropy = routed(sharp, wide)
    picture = share_picture(kept_rows({"s": [line]}, {}))
    share = line["experts/mutual_information/note/1"] / math.log(8)
    told = {row[picture.header.index("information of the row")] for row in picture.rows}
    assert told == {f"{share:.1%}" if share < 0.1 else f"{share:.0%}"}
    assert f"information {told.pop()}" in picture.alt
    assert "2.08 nats" in picture.aid
    assert (said is None) == ("Below 5% of its ceiling" not in picture.aid)
    assert said is None or (picture.aid.endswith(".") and said in picture.aid)
    (row,) = kept_rows({"s": [line]}, {})
    assert evenness(row, 8) == pytest.approx(entropy / math.log(8))
    assert (said is None) == (share > 0.05)  # what the three cases stand for


def test_a_record_without_information_shows_shares_alone():
    line, _ = routed(1.0)
    del line["experts/mutual_information/note/1"]
    picture = share_picture(kept_rows({"s": [line]}, {}))
    assert "At the right" not in picture.aid
    assert {row[4] for row in picture.rows} == {"-"}


@pytest.fixture
def drawn(monkeypatch):
    """Figures as drawn."""
    kept = []

    def keep(figure, **_):
        kept.append(figure)
        return "data:"

    monkeypatch.setattr(pictures, "encode", keep)
    return kept


def test_one_training_line_hides_neither_the_curves_nor_itself(drawn):
    short = {"contrast": [line(5, "tuning"), line(10, "tuning"), line(10, "train")]}
    picture = routing_curves(expert_rows(short))
    assert {row[0] for row in picture.rows} == {"5", "10"}
    assert routing_curves(expert_rows({"contrast": short["contrast"][1:]})) is None
    assert figures.loss_curves(short)
    assert gradient_figures.gradient_norms({"contrast": short["contrast"][2:]})
    for figure in drawn:
        for axes in figure.axes:
            thick = [one for one in axes.lines if one.get_linewidth() > 0.9]
            assert thick
            for one in thick:
                assert len(one.get_xdata()) > 1 or one.get_marker() == "o"


def test_gradient_norms_name_spikes_and_skipped_steps():
    picture = gradient_norms(CURVES)
    assert picture.rows == (("contrast", "2.000", "60.000", "1", "1"),)
    assert "1 spikes" in picture.alt
    assert gradient_norms({"plain": CURVES["plain"]}) is None
    nothing = [line(10, "train", largest_gradient_norm=None)]
    assert gradient_norms({"s": nothing}) is None
