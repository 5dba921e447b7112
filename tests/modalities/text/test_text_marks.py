"""Marks beside tokens, whatever the tokeniser; they change no token."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from row_draws import row_generator

from medmcl.core.errors import ConfigError
from medmcl.modalities.text.adapter import Text, TextAugment, TextSettings, TextSource
from medmcl.modalities.text.clinical_words import folded, is_protected
from medmcl.modalities.text.clip import ClipTokens
from medmcl.modalities.text.marks import ENDS, PLAIN, STARTS, WORD, split_pieces, token_marks


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
LVEF 62 % at 120 ml per minute today => <LVEF> 62 % at 120 ml per minute today
two weeks ago => two weeks ago
pressure >120 mmHg on 12.03.2020 => <pressure> > 120 mmHg <on> 12.03.2020
QRS 0,12 s in lead III and aVL => <QRS> 0,12 s in <lead> III <and> aVL
Left-sided opacity in RIGHT lung => Left-sided <opacity> <in> RIGHT <lung>
Überdrehter Linkstyp, oberes Feld => <Überdrehter> Linkstyp , oberes <Feld>
opacity has increased more than once => <opacity> <has> increased more than once
wahrscheinlich Infarkt, evtl. Ischämie => wahrscheinlich <Infarkt> , evtl . <Ischämie>
possible edema versus pneumonia => possible <edema> versus <pneumonia>
ventrikuläre Extrasystole(n) gesehen => <ventrikuläre> Extrasystole ( n ) <gesehen>
cut at 3 o'clock here => <cut> <at> 3 o'clock <here>
one hundred and five mg given => one hundred and five mg <given>
twenty-five tablets given => twenty-five tablets <given>
wires of 3 to 5 mm here => <wires> <of> 3 to 5 mm <here>
about 3 wires about here => about 3 <wires> <about> <here>
up to approximately a 3 cm wire => up to approximately a 3 cm <wire>
two out of the ten wires => two out of the ten <wires>
from 5 mg to 10 mg and fine => from 5 mg to 10 mg <and> <fine>
wires every other day here => <wires> every other day <here>
Patient was unable to walk; well => <Patient> <was> unable to walk ; <well>
Aspirin held, nontender but nonetheless well => <Aspirin> held , nontender but <nonetheless> <well>
hip capsule, close kilos, other dose => <hip> <capsule> , <close> <kilos> , <other> <dose>
eine andere, einander achtsam => <eine> <andere> , <einander> <achtsam>
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
        ("On Jan. 12 she fell. On Feb. 3 she left.",
         ["On Jan. 12 she fell.", "On Feb. 3 she left."]),
        ("Nodule of the Lt. Lung. Effusion of the Rt. Lung.",
         ["Nodule of the Lt. Lung.", "Effusion of the Rt. Lung."]),
        ("opacity in lt. lung is seen. good.", ["opacity in lt. lung is seen.", "good."]),
        ("Wt. 70 kg. Temp. 39.2 today. Good.", ["Wt. 70 kg.", "Temp. 39.2 today.", "Good."]),
        ("Tabs. 5 mg. Give 2 Tabs. PO. Good.", ["Tabs. 5 mg.", "Give 2 Tabs. PO.", "Good."]),
        ("Rest 5 min. Inj. Lasix. Good.", ["Rest 5 min. Inj. Lasix.", "Good."]),
        ("Appt. Mon. 3 pm. Cont. Lasix.", ["Appt. Mon. 3 pm.", "Cont. Lasix."]),
        ("mass of 3 sq. cm today. good.", ["mass of 3 sq. cm today.", "good."]),
        ("In the U.S. Army. Good.", ["In the U.S. Army.", "Good."]),
        ("Abs. 7 ok. No mass. 2. Clear.", ["Abs. 7 ok.", "No mass.", "2. Clear."]),
        ("Clear lungs. 3 wires seen.", ["Clear lungs.", "3 wires seen."]),
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


REPORTS = [
    "No pleural effusion. The heart is normal, 5.2 cm wide.",
    "Sinusrhythmus. Überdrehter Linkstyp; Größe 0,12 mV (normales EKG).",
    "clear lungs and sternal wires intact. no pneumothorax",
]
TOKENISERS = ["words", "trigrams", "bpe"]


def fitted(marks=True, texts=REPORTS, **chosen):
    text = Text(
        TextSource(column="x"), TextSettings(**{"max_tokens": 64, "marks": marks, **chosen})
    )
    text.fit(texts)
    return text


def marked(tokens, text):
    """Pieces as their tokens are spelled, with what their marks say."""
    numbers = tokens.encode(text)
    found = []
    for number, mark in zip(numbers, token_marks(text, tokens, numbers), strict=True):
        if mark & STARTS:
            found.append(["", mark & (WORD | PLAIN), 0])
        found[-1][0] += (
            tokens.spelling(number).replace("##", "").replace("▁", "").replace("</w>", "")
        )
        found[-1][2] |= mark & ENDS
    return [(spelled, int(word), int(end)) for spelled, word, end in found]


EXPECTED = [
    ("no", WORD, 0),
    ("edema", WORD, 0),
    (".", 0, ENDS),
    ("clear", WORD | PLAIN, 0),
    ("(", 0, 0),
    ("lungs", WORD | PLAIN, 0),
    (")", 0, 0),
    ("5.2", WORD, 0),
    ("cm", WORD, 0),
    ("wide", WORD | PLAIN, 0),
    (".", 0, ENDS),
]
TEXT = "No edema. Clear (lungs) 5.2 cm wide."


@pytest.mark.parametrize("tokeniser", TOKENISERS)
def test_words_are_marked_by_hand(tokeniser):
    tokens = fitted(tokeniser=tokeniser, texts=[*REPORTS, TEXT.lower()], min_count=1).tokens
    assert marked(tokens, TEXT) == EXPECTED


def test_words_are_marked_with_clip_s_tokens():
    tokens = ClipTokens([("t", "h"), ("th", "e</w>"), ("n", "o</w>")], "none")
    assert marked(tokens, TEXT) == EXPECTED


def test_words_are_marked_with_a_local_model(tmp_path):
    pytest.importorskip("transformers", reason="the extra [text] is not installed")
    spelled = "[PAD] [UNK] [CLS] [SEP] [MASK] no edema . clear ( lung ##s ) 5 2 cm wide"
    (tmp_path / "vocab.txt").write_text("\n".join(spelled.split()), encoding="utf-8")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    text = fitted(model=tmp_path)
    assert marked(text.tokens, TEXT) == EXPECTED
    other = fitted(marks=False, model=tmp_path)
    for raw in (TEXT, "", "  ", "naïve no\u0301 ?", *REPORTS):
        assert (text.prepare(raw)[0] == other.prepare(raw)).all()
    assert token_marks("", text.tokens, []).shape == (0,)


@pytest.mark.parametrize("tokeniser", TOKENISERS)
@settings(max_examples=120, deadline=None)
@given(raw=st.text(max_size=120), length=st.integers(3, 40))
def test_tokens_are_as_without_marks(tokeniser, raw, length):
    with_marks = fitted(tokeniser=tokeniser, max_tokens=length)
    without = fitted(marks=False, tokeniser=tokeniser, max_tokens=length)
    row = with_marks.prepare(raw)
    assert row.shape == with_marks.prepared_shape == (2, length)
    assert row.dtype == np.int64
    assert (row[0] == without.prepare(raw)).all()
    assert not row[1][(row[0] == 0) | (row[0] == 2) | (row[0] == 3)].any()
    assert with_marks.input_shape == without.input_shape


def test_a_chunk_whose_tokens_do_not_part_is_one_protected_word():
    class Whole:
        def encode(self, text):
            return [sum(map(ord, one)) for one in text.split()]  # a token a chunk

    marks = token_marks("Clear (lungs) here", Whole(), Whole().encode("Clear (lungs) here"))
    assert marks.tolist() == [STARTS | WORD | PLAIN, STARTS | WORD, STARTS | WORD | PLAIN]


def test_a_text_whose_tokens_are_not_those_of_its_chunks_is_left_alone():
    class Joined:
        def encode(self, text):
            return list(map(ord, text))  # white space is a token

    class Placed:
        def encode(self, text):
            return list(range(len(text.split())))  # a token is where it stands

    for tokens in (Joined(), Placed()):
        numbers = tokens.encode("clear lungs")
        assert token_marks("clear lungs", tokens, numbers).tolist() == [0] * len(numbers)


def test_a_letter_and_its_accent_are_one_and_a_sentence_ends_once():
    text = fitted(tokeniser="bpe", lowercase=False)
    assert [one[1:] for one in marked(text.tokens, "U\u0308bergang")] == [(WORD | PLAIN, 0)]
    dots = token_marks("ok ...", text.tokens, text.tokens.encode("ok ..."))
    assert (dots[-3:] & ENDS).tolist() == [0, 0, ENDS]


def test_words_that_are_not_known_are_protected_by_what_they_were():
    text = fitted(tokeniser="words", texts=["clear lungs"] * 2)
    row = text.prepare("not known")  # both are <unk>
    assert row[0, 1:3].tolist() == [1, 1]
    assert (row[1, 1:3] & PLAIN).tolist() == [0, 0]


def test_views_that_need_marks_say_so_and_all_else_reads_tokens():
    text, other = fitted(marks=False), fitted()
    x = torch.from_numpy(text.encode(REPORTS))
    with pytest.raises(ConfigError, match=r"(?s)delete, swap.*marks: true"):
        text.augment(x, TextAugment(delete=0.1, swap=0.1), row_generator())
    y = torch.from_numpy(other.encode(REPORTS))
    assert y.shape == (3, 2, 64)
    assert other.encode([]).shape == (0, 2, 64)
    assert torch.equal(other.plain(y), x)
    assert other.state() == text.state()  # weights learned without marks can go on with them
    again = Text(TextSource(column="x"), other.settings)
    again.load_state(json.loads(json.dumps(text.state())))
    assert (again.encode(REPORTS) == other.encode(REPORTS)).all()
    for options in (TextAugment(dropout=0.0), TextAugment(), TextAugment(shuffle=1.0)):
        draws = [row_generator(3) for _ in range(2)]
        assert torch.equal(text.augment(x, options, draws[0]), other.augment(y, options, draws[1]))
