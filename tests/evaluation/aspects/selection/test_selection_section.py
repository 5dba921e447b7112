"""The section on a selection: right numbers, escaped text, odd selections drawn all the same."""

from __future__ import annotations

import base64
import csv
import io
import json
import re

import numpy as np
import pytest
from made_selection import selection, shown_pair
from matplotlib.patches import Rectangle
from PIL import Image
from read_pages import page_text

from medmcl.core.shown import ShownCells, ShownImage, ShownSignal
from medmcl.evaluation.aspects.selection.figures import (
    rank_correlation,
    score_distributions,
    score_rows,
    score_scatter,
)
from medmcl.evaluation.aspects.selection.section import NO_SHEET, contact_sheet, selection_page
from medmcl.evaluation.protocol.evaluation import Evaluation
from medmcl.evaluation.report.cards import (
    LONGEST_TEXT,
    Card,
    RecordView,
    cut_text,
    image_src,
    signal_src,
    windowed,
)
from medmcl.evaluation.report.page import pages, write_report
from medmcl.evaluation.report.sections import sections_of

EVIL = '<script>alert("x")</script> & $\\frac{1}{$ 心 {{ 7 * 7 }}'


def section(evidence):
    data = Evaluation(title="t", shown={"selection": [evidence]})
    return next(one for one in sections_of(data) if one.key == "selection")


@pytest.fixture(scope="module")
def page():
    """The page of a selection alone."""
    return page_text(selection_page(selection(), level=0.9))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder with the report of two selections, and what its pages say."""
    first = np.arange(100)
    first[[50, 99]] = 0
    both = [selection(), selection(copies={"exact": first})]
    data = Evaluation(title="t", shown={"selection": both}, level=0.9)
    folder = tmp_path_factory.mktemp("report")
    write_report(folder / "report.html", data)
    names = ("report.html", "appendix.html")
    return folder, page_text("".join((folder / one).read_text(encoding="utf-8") for one in names))


def bars(figure, colour):
    patches = [one for one in figure.axes[0].patches if isinstance(one, Rectangle)]
    return [
        one.get_height()
        for one in patches
        if one.get_facecolor()[:3] == pytest.approx(colour, abs=0.01)
    ]


def test_a_report_has_the_section_only_where_something_was_selected(written):
    assert not [one for one in sections_of(Evaluation(title="t")) if one.key == "selection"]
    found = section(selection())
    assert [picture.title for picture in found.pictures] == [
        "Share kept by group, select", "How pairs score, select", "Two scores, select",
    ]  # fmt: skip
    assert found.lines[:2] == ("40 of 100 pairs are kept (40.0%).", "Rule: select")
    assert len(found.warnings) == 1
    assert "sex, a" in found.warnings[0]
    _, html = written
    assert 'href="#selection"' in html
    assert '<section id="selection-2"' in html
    assert "40 of 100 pairs are kept (40.0%). A warning is under Selection." in html


def test_figures_have_a_reading_aid_an_alternative_and_a_table():
    for picture in section(selection()).pictures:
        assert picture.aid.endswith(".")
        assert re.search(r"\d", picture.alt)
        assert picture.rows
        assert {len(row) for row in picture.rows} == {len(picture.header)}


def test_bars_count_every_pair_and_none_is_of_both_kinds_at_a_cut(drawn):
    rng = np.random.default_rng(0)
    scores = rng.normal(size=1000)
    scores[:3] = 50.0  # far out: in the last bar
    kept = scores >= np.quantile(scores, 0.7)
    score_distributions(selection(1000, scores={"clip": scores}, kept=kept, subgroups={}))
    grey, blue = bars(drawn[-1], (0.76, 0.76, 0.76)), bars(drawn[-1], (0, 0.447, 0.698))
    assert sum(grey) == (~kept).sum()
    assert sum(blue) == kept.sum()
    assert not any(a and b for a, b in zip(grey, blue, strict=True))


def test_the_table_of_scores_has_the_quantiles_of_both_kinds():
    rows = score_rows(selection())
    kept, rest = (row for row in rows if row["score"] == "clip")
    assert (kept["pairs"], kept["n"], kept["lowest"], kept["median"]) == ("kept", 40, 60, 79.5)
    assert (rest["pairs"], rest["n"], rest["highest"]) == ("not kept", 60, 59)
    assert kept["cut"] == rest["cut"] == 60
    assert [row["cut"] for row in rows if row["score"] == "other"] == [None, None]


def test_infinite_scores_are_counted_and_not_drawn():
    scores = np.arange(100, dtype=float)
    scores[:2], scores[99] = -np.inf, np.inf
    found = selection(scores={"clip": scores, "other": -scores})
    aid = score_distributions(found).aid
    assert "6 scores are infinite" in aid
    assert "3 pairs with an infinite score are not drawn" in score_scatter(found).aid
    kept, rest = score_rows(found)[:2]
    assert (kept["infinite"], rest["infinite"], kept["highest"]) == (1, 2, 98)
    nothing = selection(scores={"clip": np.full(100, np.inf), "other": scores})
    assert score_distributions(nothing) is not None
    assert score_scatter(nothing) is None


def test_rank_correlation_is_that_of_a_loop_and_none_of_a_constant():
    x, y = np.array([3.0, 1, 2, 2]), np.array([1.0, 5, 4, 2])
    ranks = [[sum(b < a for b in z) + (1 + sum(b == a for b in z)) / 2 for a in z] for z in (x, y)]
    assert rank_correlation(x, y) == pytest.approx(np.corrcoef(ranks)[0, 1])
    assert rank_correlation(x, np.ones(4)) is None


@pytest.mark.parametrize("found", [
    selection(1, subgroups={}),
    selection(scores={"clip": np.ones(100), "other": np.ones(100)}),
    selection(scores={}, subgroups={}, pairs={}),
    selection(scores={"clip": np.arange(100.0)}, kept=np.ones(100, dtype=bool)),
    selection(kept=np.zeros(100, dtype=bool)),
    selection(2000, scores={f"s{k}": np.arange(2000.0) for k in range(20)},
              subgroups={"site": {f"s{k}": np.arange(2000) % 99 == k for k in range(99)},
                      "task": {f"c{k}": np.arange(2000) % 30 == k for k in range(30)}}),
], ids=["one pair", "constant", "nothing known", "all kept", "none kept", "many"])  # fmt: skip
def test_odd_selections_are_drawn_too(found):
    html = page_text(selection_page(found))
    assert not re.search(r"\b(nan|inf)\b", html)
    assert ">Share kept by group" in html


def test_without_pairs_the_page_says_so(page):
    html = page_text(selection_page(selection(scores={}, pairs={})))
    assert NO_SHEET in html
    assert "card-of" not in html
    assert "No score is known" in html
    assert NO_SHEET not in page
    assert "No score is known" not in page


def test_text_of_users_is_escaped_everywhere():
    bad = selection(
        text=EVIL, subgroups={EVIL: {EVIL: np.ones(100, dtype=bool)}}, warnings=(EVIL,),
        sheet_by=EVIL,
        copies={EVIL: np.arange(100)}, scores={EVIL: np.arange(100.0)},
        pairs={"best": (shown_pair(EVIL, EVIL), shown_pair(EVIL, EVIL, signal=True))},
    )  # fmt: skip
    for html in (
        selection_page(bad, title=EVIL, subtitle=EVIL, provenance={EVIL: EVIL}),
        "".join(pages(Evaluation(title="t", shown={"selection": [bad]}))),
    ):
        shown = page_text(html)
        assert "<script" not in shown
        assert "{{ 7 * 7 }}" in shown
        assert "&lt;script&gt;" in shown
        assert "http" not in shown


def test_cards_show_pictures_first_and_say_what_is_kept(page):
    sheet = contact_sheet(selection())
    names = [(name, len(cards)) for name, cards in sheet.rows.items()]
    assert names == [("Best", 1), ("Borderline", 0), ("Worst", 1)]
    card = sheet.rows["Best"][0]
    assert card.scores == (("clip", "0.25"), ("select", "-1.5"))
    assert [bool(face.src) for face in card.faces] == [True, False, False]
    assert [face.text for face in card.faces] == ["", "select", ""]
    assert page.count('class="card-of kept"') == 1
    assert page.count('class="card-of out"') == 1
    assert "There is no pair to show here." in page


def test_long_texts_are_cut_at_a_word_and_lines_are_kept():
    text = "word " * 200
    short = cut_text(text)
    assert len(short) <= LONGEST_TEXT
    assert short.endswith("word…")
    assert cut_text("x" * 500) == "x" * (LONGEST_TEXT - 1) + "…"
    assert cut_text("a  b\n\n\n c \n") == "a b\nc"
    assert cut_text("y" * LONGEST_TEXT) == "y" * LONGEST_TEXT


def test_a_wide_row_of_a_table_counts_what_is_not_shown():
    cells = ShownCells(cells=tuple((f"c{k}", "1") for k in range(20)), note="3 cells are missing")
    sides = (RecordView(name="clinic", content=cells),)
    (face,) = Card(id="1", state="kept", look="kept", sides=sides).faces
    assert len(face.cells) == 12
    assert face.note == "3 cells are missing; 8 more are not shown"


def opened(src):
    return Image.open(io.BytesIO(base64.b64decode(src.split("base64,")[1])))


def test_images_have_their_aspect_and_their_own_window():
    pixels = np.arange(10_000, dtype=float).reshape(50, 200)
    low, high = np.quantile(pixels, [0.01, 0.99])
    np.testing.assert_allclose(windowed(pixels), np.clip((pixels - low) / (high - low), 0, 1))
    assert opened(image_src(ShownImage(pixels=pixels))).size == (200, 50)
    assert opened(image_src(ShownImage(pixels=pixels, aspect=4.0))).size == (200, 200)
    large = opened(image_src(ShownImage(pixels=np.zeros((3000, 1500)))))
    assert large.size == (210, 420)
    colour = opened(image_src(ShownImage(pixels=np.random.default_rng(0).random((8, 8, 3)))))
    assert colour.mode == "RGB"
    spot = np.zeros((100, 100))
    spot[5, 5] = 1.0  # fewer than a hundredth
    assert windowed(spot)[5, 5] == 1.0
    assert windowed(np.full((3, 3), np.nan)).max() == 0.0


def test_an_ecg_keeps_the_proportions_of_paper_and_its_leads_do_not_meet(drawn):
    times = np.arange(500) / 100
    beat = np.exp(-(((times % 1) - 0.5) ** 2) / 0.0005)
    signal = ShownSignal(values_mv=np.stack([beat, -2 * beat, beat + 5]), leads=("II", "V1", "V5"),
                         rate_hz=100)  # fmt: skip
    _, odd = signal_src(signal)
    figure = drawn[-1]
    (axes,) = figure.axes
    width, height = figure.get_size_inches()
    millimetres = height / width * np.ptp(axes.get_xlim()) * 25
    assert millimetres == pytest.approx(np.ptp(axes.get_ylim()) * 10)
    assert odd == ""
    first, second, third = (line.get_ydata() for line in axes.lines)
    assert first.min() > second.max()
    assert second.min() > third.max()
    np.testing.assert_allclose(np.ptp(second), 2 * np.ptp(first))
    assert third.min() > axes.get_ylim()[0]
    assert first.max() < axes.get_ylim()[1]


def test_an_ecg_too_tall_or_without_samples_is_drawn_and_says_so():
    tall = np.random.default_rng(0).normal(size=(3, 500)) * 9
    tall[1] = np.nan
    assert "amplitudes at" in signal_src(
        ShownSignal(values_mv=tall, leads=("II", "V1", "V5"), rate_hz=100)
    )[1]  # fmt: skip


def test_numbers_are_in_files_and_json(written):
    folder, html = written
    with (folder / "selection_groups.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["group"], row["n"], row["kept"]) for row in rows] == [
        ("", "100", "40"), ("a", "50", "0"), ("b", "50", "40"),
    ] * 2  # fmt: skip
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert report["selection_scores"][0]["cut"] == 60
    assert "Duplicates (exact): 2 pairs repeat an earlier one; 1 of them are kept." in html


def test_the_level_of_intervals_is_said(page, written):
    assert "90 % interval" in page
    assert "90 % interval" in written[1]
