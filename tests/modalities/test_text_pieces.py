"""Words, clauses and sentences of reports, marked by hand: plain words in small brackets."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medmcl.modalities.text_clinical_words import folded, is_protected
from medmcl.modalities.text_pieces import split_pieces


def shown(text):
    """Plain words in <>, a bar behind the end of a sentence."""
    found = split_pieces(text)
    return " ".join(
        (f"<{one.text}>" if one.is_plain else one.text) + (" |" if one.ends else "")
        for one in found
    )


# text; words in <> may go or move, all others are protected; | where a sentence ends
PROTECTED = """
No pleural effusion. Clear lungs. => No pleural effusion . | <Clear> <lungs> . |
Patient denies chest pain. => <Patient> denies chest pain . |
No effusion, edema or mass => No effusion , edema or mass
Effusion is not seen; clear lungs => Effusion is not seen ; <clear> <lungs>
no edema but big effusion => no edema but <big> <effusion>
Lungs aren't clear => Lungs aren't clear
Effusion: no, edema => Effusion : no , edema
Infarct? No. Normal axis. => Infarct ? No . | <Normal> <axis> . |
Kein Anhalt für Ischämie. Normales EKG. => Kein Anhalt für Ischämie . | <Normales> <EKG> . |
rhythmus, keine p-welle erkannt => <rhythmus> , keine p-welle erkannt
Infarkt ist ausgeschlossen, aber Ischämie => Infarkt ist ausgeschlossen , aber <Ischämie>
Pas d'épanchement. Coeur normal. => Pas d'épanchement . | <Coeur> <normal> . |
ST-T ospecifik. Infarkt kan ej uteslutas. => ST-T <ospecifik> . | Infarkt kan ej uteslutas . |
Inga tecken på ischemi men vänstersidigt block => Inga tecken på ischemi men vänstersidigt <block>
Epanchement absent. => Epanchement absent . |
non-displaced fracture => non-displaced fracture
Nodule of 5.2 cm seen => <Nodule> <of> 5.2 cm <seen>
cm marks on film => <cm> <marks> <on> <film>
LVEF 62 % at 120 ml per minute today => <LVEF> 62 % <at> 120 ml per minute today
two weeks ago => two weeks ago
pressure >120 mmHg on 12.03.2020 => <pressure> > 120 mmHg <on> 12.03.2020
QRS 0,12 s in lead III and aVL => <QRS> 0,12 s <in> <lead> III <and> aVL
Left-sided opacity in RIGHT lung => Left-sided <opacity> <in> RIGHT <lung>
Überdrehter Linkstyp, oberes Feld => <Überdrehter> Linkstyp , oberes <Feld>
opacity has increased more than once => <opacity> <has> increased more than once
wahrscheinlich Infarkt, evtl. Ischämie => wahrscheinlich <Infarkt> , evtl . <Ischämie>
possible edema versus pneumonia => possible <edema> versus <pneumonia>
ventrikuläre Extrasystole(n) gesehen => <ventrikuläre> Extrasystole ( n ) <gesehen>
"""


@pytest.mark.parametrize("line", PROTECTED.strip().split("\n"))
def test_what_is_protected(line):
    text, expected = line.split(" => ")
    assert shown(text) == expected


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Clear lungs. Normal heart.", ["Clear lungs.", "Normal heart."]),
        ("Seen by Dr. Smith. Agreed!", ["Seen by Dr. Smith.", "Agreed!"]),
        ("Compared with No. 3 of May. Good.", ["Compared with No. 3 of May.", "Good."]),
        ("Effusion seen? No. Good.", ["Effusion seen? No.", "Good."]),
        ("1. Clear lungs. 2. Big heart.", ["1. Clear lungs.", "2. Big heart."]),
        ("AV-Block 1. Grades. EKG.", ["AV-Block 1. Grades.", "EKG."]),
        ("z. B. Infarkt, d.h. Narbe. Gut.", ["z. B. Infarkt, d.h. Narbe.", "Gut."]),
        ("QRS 98 ms. Heart 12 cm. Good.", ["QRS 98 ms.", "Heart 12 cm.", "Good."]),
        ("Ms. Smith is well. Good.", ["Ms. Smith is well.", "Good."]),
        ("On 12.03.2020. compared. Good.", ["On 12.03.2020. compared.", "Good."]),
        ("Size (see above. and below) ok. Good.", ["Size (see above. and below) ok.", "Good."]),
        ("Size (See above. And below) ok. Good.", ["Size (See above. And below) ok.", "Good."]),
        ("supraventr. extrasystolen. gut.", ["supraventr. extrasystolen.", "gut."]),
        ("Cong. heart failure. Good.", ["Cong. heart failure.", "Good."]),
        ("sinus rhythm. normal ecg. qt 4.46", ["sinus rhythm.", "normal ecg.", "qt 4.46"]),
        ("Lungs are\nclear. Heart is\n\nbig.", ["Lungs are clear.", "Heart is big."]),
        ("It is \"clear.\" Good (very.) End", ["It is \"clear.\"", "Good (very.)", "End"]),
        ("Übergang in V3. Gut.", ["Übergang in V3.", "Gut."]),
    ],
)  # fmt: skip
def test_where_sentences_end(text, sentences):
    whole, found = [""], split_pieces(text)
    for number, one in enumerate(found):
        gap = number > 0 and one.chunk != found[number - 1].chunk
        whole[-1] += (" " if gap and whole[-1] else "") + one.text
        if one.ends and number < len(found) - 1:
            whole.append("")
    assert whole == sentences


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=80))
def test_pieces_are_the_text_without_white_space(text):
    found = split_pieces(text)
    assert "".join(one.text for one in found) == "".join(text.split())
    assert all(one.is_word or not one.is_plain for one in found)
    assert not any(re.search(r"\d", one.text) and one.is_plain for one in found)


def test_texts_without_letters():
    assert split_pieces("") == split_pieces(" \n\t ") == []
    assert not any(one.is_plain for one in split_pieces("12 3.5 % -- ??? ___ 1/2"))


KNOWN = (
    "Left links rechte BEIDSEITS anterior inferiorer bilateral zwei III kein weniger Vergrößert "
    "cannot unlikely gestern augmenté mögl 3rd V5 OD OU bid t.i.d. PRN daily RUQ LVH b/l täglich"
)


@pytest.mark.parametrize("word", KNOWN.split())
def test_a_word_is_known_in_any_case_and_ending(word):
    assert is_protected(word)
    assert is_protected(word.upper())
    assert folded(word) == folded(word.upper())
