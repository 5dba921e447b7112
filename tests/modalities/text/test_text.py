""""""

from __future__ import annotations

import importlib.util
import json
import math
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from row_draws import row_generator as generator

from medmcl.core.contracts import RecordRef
from medmcl.core.errors import ArtefactError, ConfigError, ExtraNotInstalledError, RecordError
from medmcl.modalities.text.adapter import (
    SIZES,
    Text,
    TextAugment,
    TextSettings,
    TextSource,
    text_terms,
)
from medmcl.modalities.text.tokens import Vocabulary, normalise, split_words

REPORTS = [
    "Sinusrhythmus. Normales EKG.",
    "Sinusrhythmus. Überdrehter Linkstyp; Größe 0,12 mV.",
    "Vorhofflimmern. Normales EKG, QRS 120 ms.",
    "Sinusrhythmus, normales EKG. QRS 98 ms.",
]
PAD, UNK, CLS, END = 0, 1, 2, 3


def place(values=None, **paths):
    return RecordRef(subject="s1", record="r1", values=values or {}, paths=paths)


def adapter(source=None, **chosen):
    return Text(
        TextSource(**({"column": "report"} if source is None else source)), TextSettings(**chosen)
    )


def fitted(texts=REPORTS, **chosen):
    text = adapter(**{"max_tokens": 24, **chosen})
    text.fit(texts)
    return text


def words(text, row):
    return [text.tokens.words[number] for number in row]


def codes(text, raw):
    return {(f.code, f.level) for f in text.inspect(raw, place())}


# ------------------------------------------------------------------ reading


def test_a_cell_is_read_as_it_is_and_an_empty_one_is_empty_text():
    text = adapter()
    assert text.read(place({"report": "Größe 5 µV"})) == "Größe 5 µV"
    for missing in (None, math.nan, pd.NA, ""):
        assert text.read(place({"report": missing})) == ""
    assert text.read(place({"report": "None"})) == "None"
    with pytest.raises(RecordError, match=r"(?s)'report'.*note"):
        text.read(place({"note": "a"}))


def test_words_come_before_every_text_but_an_empty_one(tmp_path):
    text = adapter({"column": ("a", "b"), "prefix": "a photo of "})
    assert text.read(place({"a": "a dog", "b": "outside"})) == "a photo of a dog\noutside"
    assert text.read(place({"a": "", "b": None})) == ""
    (tmp_path / "x.txt").write_text("a dog")
    read = adapter({"prefix": "a photo of "}).read(place(path=tmp_path / "x.txt"))
    assert read == "a photo of a dog"
    cut = adapter({"column": "a", "sections": ("impression",), "prefix": "Says: "})
    assert cut.read(place({"a": "FINDINGS: x.\nIMPRESSION: Clear."})) == "Says: Clear."
    whole = cut.read(place({"a": "Clear."}))
    assert whole == "Says: Clear."
    assert [one.code for one in cut.inspect(whole, place())] == ["text.whole"]


def test_a_file_is_read_in_the_declared_encoding(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("Größe".encode("latin-1"))
    assert adapter({"encoding": "latin-1"}).read(place(path=path)) == "Größe"
    with pytest.raises(RecordError, match="latin-1"):
        adapter({}).read(place(path=path))
    with pytest.raises(RecordError, match="unknown encoding"):
        adapter({"encoding": "klingon"}).read(place(path=path))
    with pytest.raises(RecordError, match="no such file"):
        adapter({}).read(place(path=tmp_path / "b.txt"))
    with pytest.raises(RecordError, match="neither a column nor a file"):
        adapter({}).read(place())
    with pytest.raises(RecordError):
        adapter({}).read(place(path=tmp_path))


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_are_text_or_a_clear_error(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "random.txt"
    path.write_bytes(content)
    try:
        raw = adapter({}).read(place(path=path))
    except RecordError:
        return
    assert content.decode() == raw or b"\r" in content


@pytest.mark.parametrize("raw", ["", "  \n\t "])
def test_empty_texts_are_found(raw):
    assert codes(adapter(), raw) == {("text.empty", "error")}


def test_texts_longer_than_a_row_are_warned_of_before_and_after_fitting():
    for text in (adapter(max_tokens=5), fitted(max_tokens=5)):
        assert codes(text, REPORTS[1]) == {("text.long", "warning")}
        assert codes(text, "EKG") == set()


@pytest.mark.parametrize(
    "letters", ["Herzinsuffizienz, müde", "\u201eDruck\u201c auf der Brust", "café"]
)
def test_letters_in_another_encoding_are_told(letters):
    assert not codes(adapter(), letters)
    garbled = letters.encode("utf-8").decode("latin-1")
    assert codes(adapter(), garbled) == {("text.garbled", "warning")}
    if "\u201e" in letters:
        garbled = letters.encode("cp1252").decode("latin-1")
        assert codes(adapter(), garbled) == {("text.garbled", "warning")}


# ------------------------------------------------------------------ tokens


def test_words_numbers_umlauts_and_signs_are_split():
    text = "QRS-Dauer 0,12 s; Übergang V3/V4 120ms (µV) 1.5"
    expected = "QRS - Dauer 0,12 s ; Übergang V 3 / V 4 120 ms ( µV ) 1.5"
    assert split_words(text) == expected.split()


def test_spellings_that_look_alike_become_one():
    assert normalise("U\u0308bergang") == normalise("Übergang") == "übergang"
    assert normalise("\u00b5V") == normalise("\u03bcV")
    assert normalise("EKG", lowercase=False) == "EKG"


def test_a_row_is_start_text_end_and_padding():
    text = fitted()
    row = text.prepare("Sinusrhythmus. Normales EKG")
    assert row.dtype == np.int64
    assert row.shape == text.prepared_shape == text.input_shape.shape == (24,)
    spoken = ["<cls>", "sinusrhythmus", ".", "normales", "ekg", "<end>"]
    assert words(text, row) == [*spoken, *["<pad>"] * 18]


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=300), st.integers(3, 30))
def test_the_end_is_never_cut_and_numbers_stay_inside_the_vocabulary(raw, length):
    text = fitted(max_tokens=length)
    row = text.prepare(raw)
    assert row[0] == CLS
    assert (row == END).sum() == 1
    end = int(np.flatnonzero(row == END)[0])
    assert (row[end + 1 :] == PAD).all()
    assert not np.isin(row[1:end], [PAD, CLS, END]).any()
    assert row.max() < text.input_shape.vocabulary


def test_special_words_in_a_text_are_not_taken_for_special_tokens():
    row = fitted().prepare("<pad> <end> <cls>")
    assert (row == END).sum() == 1


def test_unknown_words_are_spelled_from_pieces_and_can_be_put_together_again():
    text = fitted()
    row = text.prepare("Vorhofgrößen 201")  # neither stands in the reports
    spelled = [w.removeprefix("##") for w in words(text, row) if w.startswith("##")]
    assert "".join(spelled) == "vorhofgrößen201"
    assert len(spelled) < len("vorhofgrößen201")
    assert UNK not in row


def test_characters_never_seen_are_unknown():
    row = fitted().prepare("日本")
    assert row[:4].tolist() == [CLS, UNK, UNK, END]


def test_without_pieces_an_unknown_word_is_one_unknown_token():
    text = fitted(tokeniser="words")
    assert not any(word.startswith("##") for word in text.tokens.words)
    assert text.prepare("Vorhofgrößen EKG")[:4].tolist() == [
        CLS,
        UNK,
        text.tokens.numbers["ekg"],
        END,
    ]


def test_rare_words_get_no_number_and_the_size_is_kept():
    text = fitted(min_count=2, tokeniser="words")
    assert {"sinusrhythmus", "ekg", "."} <= set(text.tokens.words)
    assert "vorhofflimmern" not in text.tokens.words
    for size in (16, 20, 40):
        assert fitted(vocabulary=size, min_count=1).input_shape.vocabulary <= size


def test_the_vocabulary_does_not_depend_on_the_order_of_the_texts():
    assert fitted(REPORTS).state() == fitted(REPORTS[::-1]).state()


def test_what_was_learned_survives_json():
    text, other = fitted(), adapter(max_tokens=24)
    with pytest.raises(RuntimeError):
        other.prepare("EKG")
    other.load_state(json.loads(json.dumps(text.state())))
    assert other.input_shape == text.input_shape
    assert other.tokens == text.tokens
    for report in [*REPORTS, "Unbekanntes 77"]:
        assert (other.prepare(report) == text.prepare(report)).all()
    with pytest.raises(ArtefactError):
        other.load_state({"words": ["a", "b"], "lowercase": True, "spell": True})


def test_prompts_are_encoded_together():
    text = fitted()
    rows = text.encode(REPORTS[:2])
    assert rows.shape == (2, 24)
    assert (rows[1] == text.prepare(REPORTS[1])).all()
    assert text.encode([]).shape == (0, 24)


# ------------------------------------------------------------------ augmentation


def batch(text):
    return torch.from_numpy(text.encode(REPORTS * 50))


def test_nothing_changes_when_nothing_is_asked_for():
    text = fitted()
    x = batch(text)
    assert torch.equal(text.plain(x), x)
    assert torch.equal(text.augment(x, TextAugment(dropout=0.0), generator()), x)


def test_dropped_tokens_become_unknown_at_their_rate_and_special_ones_stay():
    text = fitted()
    x = batch(text)
    y = text.augment(x, TextAugment(dropout=0.3), generator())
    special = (x == PAD) | (x == CLS) | (x == END)
    assert torch.equal(y[special], x[special])
    changed = (y != x)[~special & (x != UNK)]
    assert float(changed.float().mean()) == pytest.approx(0.3, abs=0.04)
    assert (y[y != x] == UNK).all()
    assert torch.equal(y, text.augment(x, TextAugment(dropout=0.3), generator()))
    assert not torch.equal(y, text.augment(x, TextAugment(dropout=0.3), generator(1)))


def test_shuffling_moves_whole_sentences_and_keeps_every_token():
    text = fitted()
    x = batch(text)
    y = text.augment(x, TextAugment(dropout=0.0, shuffle=1.0), generator())
    assert torch.equal(x.sort(dim=1).values, y.sort(dim=1).values)
    assert not torch.equal(x, y)
    for before, after in zip(x.tolist(), y.tolist(), strict=True):
        assert _sentences(text, before) == _sentences(text, after)
        assert before.index(END) == after.index(END)
        assert after[0] == CLS
    half = text.augment(x, TextAugment(dropout=0.0, shuffle=0.0), generator())
    assert torch.equal(half, x)


def _sentences(text, row):
    sentences, current = [], []
    for word in words(text, row)[1 : row.index(END)]:
        current.append(word)
        if word in ".!?;":
            sentences.append(" ".join(current))
            current = []
    return sorted([*sentences, " ".join(current)])


# ------------------------------------------------------------------ local model, settings, data


def test_a_local_model_needs_the_text_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(ExtraNotInstalledError, match=r"medmcl\[text\]"):
        adapter(model=tmp_path)


@pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="transformers is not installed"
)
def test_a_local_tokeniser_travels_in_the_state(tmp_path):
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "ekg", "normal", "##es", "."]
    (tmp_path / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    text, other = adapter(model=tmp_path, max_tokens=8), adapter(max_tokens=8)
    text.fit([])
    other.load_state(json.loads(json.dumps(text.state())))
    for one in (text, other):
        assert one.prepare("Normales EKG. Foo").tolist() == [2, 6, 7, 5, 8, 1, 3, 0]
        assert one.input_shape.vocabulary == 9
        assert one.tokens.stops == (8,)
    with pytest.raises(ConfigError, match="no such folder"):
        adapter(model=tmp_path / "none").fit([])


@pytest.mark.parametrize(
    "fields", [{"max_tokens": 2}, {"vocabulary": 4}, {"tokeniser": "bits"}, {"min_count": 0}]
)
def test_impossible_settings_are_refused(fields):
    with pytest.raises(ValidationError):
        TextSettings(**fields)


def test_a_vocabulary_counts_its_tokens():
    assert len(Vocabulary.learn([], size=16, min_count=1, lowercase=True, spell=True)) == 4


@pytest.mark.skipif("MEDMCL_DATA" not in os.environ, reason="MEDMCL_DATA names no data folder")
def test_german_reports_fit_and_hardly_any_token_is_unknown():
    path = Path(os.environ["MEDMCL_DATA"]) / "ptbxl" / "ptbxl_database.csv"
    if not path.is_file():
        pytest.skip("there is no ptbxl folder in MEDMCL_DATA")
    reports = pd.read_csv(path)["report"].dropna().tolist()
    text = fitted(reports[:1500], max_tokens=128)
    rows = text.encode(reports[1500:2000])
    assert text.input_shape.vocabulary < 8000
    assert (rows == UNK).sum() / (rows > END).sum() < 0.005
    assert (rows[:, -1] == PAD).mean() > 0.95


def slow(text):
    terms = []
    for word in text.lower().split():
        padded = f" {word} "
        for size in SIZES:
            terms += [padded[i : i + size] for i in range(len(padded)) if i + size <= len(padded)]
    return terms


def test_terms_are_the_runs_of_each_word():
    for text in ("Sinusrhythmus, ST-Hebung", "a", "", "  ü  ?! "):
        assert Counter(text_terms(text)) == Counter(slow(text))


def test_terms_equal_those_of_scikit_learn_but_for_short_words():
    from sklearn.feature_extraction.text import CountVectorizer

    text = "sinus rhythm with premature beats"
    theirs = CountVectorizer(analyzer="char_wb", ngram_range=(2, 5)).build_analyzer()(text)
    assert Counter(theirs) == Counter(text_terms(text))


def test_case_and_spelling_of_one_word_are_one_term():
    assert text_terms("U\u0308BERGANG") == text_terms("übergang")
    assert text_terms("ST", lowercase=False) != text_terms("st", lowercase=False)
