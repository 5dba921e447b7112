"""Sections of reports, on the odd headers that reports have."""

import pickle
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medmcl.core.contracts import RecordRef
from medmcl.modalities.text.adapter import Text, TextSettings, TextSource
from medmcl.modalities.text.sections import ReportText, plain_name, split_sections, take_sections

BOTH = ("findings", "impression")
REPORT = """                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)

 INDICATION:  ___F with cough, please rule out pneumonia. No prior findings.

 COMPARISON:  None.

 FINDINGS:

 LUNGS: No focal consolidation. The findings
 are as follows: none.

 IMPRESSION: 1. No acute process.
 2. Stable.

 RECOMMENDATION(S):  None.
"""


def place(values):
    return RecordRef(subject="s1", record="r1", paths={}, values=values)


def test_a_usual_report_gives_both_sections_and_nothing_else():
    taken = take_sections(REPORT, BOTH)
    assert " ".join(taken.split()) == (
        "LUNGS: No focal consolidation. The findings are as follows: none. "
        "1. No acute process. 2. Stable."
    )
    assert not taken.whole
    assert take_sections(REPORT, ["indication"]).startswith("___F with cough")
    assert take_sections(REPORT, ["comparison"]) == "None."


def test_sections_come_in_the_order_asked_for():
    assert take_sections(REPORT, ("impression", "findings")).startswith("1. No acute process.")


@pytest.mark.parametrize(
    ("text", "findings", "impression"),
    [
        ("FINDINGS: a\nIMPRESSION: b", "a", "b"),
        ("Findings : a\nImpression : b", "a", "b"),
        ("findings: a\nimpression: b", "a", "b"),
        ("FINDING:a\nIMPRESSIONS:b", "a", "b"),
        ("FINDINGS\na\n\nIMPRESSION\nb", "a", "b"),
        ("FINDINGS\r\na\r\n\r\nIMPRESSION\r\nb", "a", "b"),
        ("FINAL REPORT FINDINGS: a IMPRESSION: b", "a", "b"),
        ("Findings: Clear. Impression: Normal.", "Clear.", "Normal."),
        ("findings: clear. impression: normal.", "clear.", "normal."),
        ("WET READ: x\n _____\n   FINAL REPORT\n FINDINGS: a\n IMPRESSION: b", "a", "b"),
        ("FINDINGS: a\nTECHNIQUE: t\nIMPRESSION (PRELIMINARY): b", "a", "b"),
        ("FINDINGS AND IMPRESSION: a", "a", "a"),
        ("Findings/Impression: a\nComparison: none", "a", "a"),
        ("FINDINGS: a\nADDENDUM: no\nFINDINGS: c\nIMPRESSION: b", "a\nc", "b"),
        ("FINDINGS: a, compared with the impression: of others", None, False),
        ("IMPRESSION: See FINDINGS. None", False, "See FINDINGS. None"),
        ("INDICATION: FINDINGS of last year\nIMPRESSION: b", False, "b"),
        ("FINDINGS: no\n  findings\nof note\nIMPRESSION: b", "no\n  findings\nof note", "b"),
        ("FINDINGS:\nIMPRESSION: b", False, "b"),
    ],
)
def test_odd_headers(text, findings, impression):
    for name, expected in (("findings", findings), ("impression", impression)):
        taken = take_sections(text, [name])
        if expected is None:
            expected = text.partition(": ")[2]
        assert (taken.whole, str(taken)) == (expected is False, expected or text)
    if "AND" in text or "/" in text:
        assert take_sections(text, BOTH) == "a"  # once


@pytest.mark.parametrize("text", ["Lungs are clear.", "INDICATION: cough", "FINDINGS:", "", " \n"])
def test_a_report_without_them_is_taken_whole(text):
    assert take_sections(text, BOTH) == text
    assert take_sections(text, BOTH).whole


def test_headers_of_other_languages_are_known_where_they_are_named():
    text = "Befund: Kein Erguss.\nBeurteilung: Unauffällig."
    assert take_sections(text, ["befund"]).whole is False
    assert take_sections(text, ["befund", "beurteilung"]) == "Kein Erguss.\nUnauffällig."
    assert take_sections(text, ["findings"]).whole


def test_names_are_told_apart_by_words_alone():
    assert {plain_name(n) for n in ("FINDINGS", "finding", " Findings ")} == {"finding"}
    assert take_sections("TYPE OF EXAMINATION: x\nEXAMINATION: y", ["examination"]) == "y"


@given(st.lists(st.sampled_from([*REPORT.split("\n"), "Impression", "history:", "a FINDINGS: b"])))
def test_no_word_is_lost_between_sections(lines):
    text = "\n".join(lines)
    sections = split_sections(text)
    assert sections[0].names == ()
    kept = sum(len(one.text.split()) for one in sections)
    headers = sum(len(name.split()) for one in sections for name in one.names)
    assert kept == len(text.split()) - headers


@pytest.mark.parametrize(
    "piece", ["FINDINGS AND ", "FINDINGS (", "IMPRESSION" + " " * 60, "final "], ids=repr
)
def test_long_and_odd_texts_take_no_longer_than_their_length(piece):
    started = time.perf_counter()
    take_sections(piece * 3_000, BOTH)
    assert time.perf_counter() - started < 3


def test_that_it_is_whole_is_a_warning_and_lives_through_other_processes():
    text = Text(TextSource(column="note", sections=BOTH), TextSettings(max_tokens=8))
    raw = text.read(place({"note": "Lungs are clear, and there are more words than eight."}))
    again = pickle.loads(pickle.dumps(raw))  # our own bytes
    assert isinstance(again, ReportText)
    assert (again, again.whole) == (raw, True)
    found = text.inspect(again, place({}))
    assert [(f.code, f.level) for f in found] == [
        ("text.whole", "warning"),
        ("text.long", "warning"),
    ]
    assert "findings or impression" in found[0].what
    plain = text.read(place({"note": "FINDINGS: clear"}))
    assert (plain, text.inspect(plain, place({}))) == ("clear", [])


def test_several_columns_follow_each_other_and_empty_ones_leave_no_gap():
    text = Text(TextSource(column=("findings", "impression")), TextSettings())
    assert text.read(place({"findings": "a", "impression": "b"})) == "a\nb"
    assert text.read(place({"findings": None, "impression": "b"})) == "b"
    assert text.read(place({"findings": float("nan"), "impression": None})) == ""
