"""Marks beside tokens, whatever the tokeniser; they change no token."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medmcl.core.errors import ConfigError
from medmcl.modalities.text.adapter import Text, TextAugment, TextSettings, TextSource
from medmcl.modalities.text.clip import ClipTokens
from medmcl.modalities.text.marks import ENDS, PLAIN, STARTS, WORD, token_marks

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
        text.augment(x, TextAugment(delete=0.1, swap=0.1), torch.Generator())
    y = torch.from_numpy(other.encode(REPORTS))
    assert y.shape == (3, 2, 64)
    assert other.encode([]).shape == (0, 2, 64)
    assert torch.equal(other.plain(y), x)
    assert other.state() == text.state()  # weights learned without marks can go on with them
    again = Text(TextSource(column="x"), other.settings)
    again.load_state(json.loads(json.dumps(text.state())))
    assert (again.encode(REPORTS) == other.encode(REPORTS)).all()
    for options in (TextAugment(dropout=0.0), TextAugment(), TextAugment(shuffle=1.0)):
        draws = [torch.Generator(device="cpu").manual_seed(3) for _ in range(2)]
        assert torch.equal(text.augment(x, options, draws[0]), other.augment(y, options, draws[1]))
