"""Byte pairs against slow loops and the tokenizers library; ends that are never cut."""

import json
import math
import pickle
import unicodedata
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from medmcl.core.contracts import RecordRef
from medmcl.core.errors import ArtefactError
from medmcl.modalities.text.adapter import Text, TextSettings, TextSource
from medmcl.modalities.text.bpe import BASE, WORD, BytePairs, unified

REPORTS = [
    "No acute cardiopulmonary process. Heart size is normal.",
    "Small left pleural effusion; no pneumothorax, no acute process.",
    "Heart size 12,5 cm. Effusion 120 ml, unchanged from 2019.",
    "Überdrehter Linkstyp, größerer Pleuraerguss. Größe 0,12 mV.",
    "心臓の大きさは正常 🙂 naïve café ____ ___",
]
PAD, UNK, CLS, END = 0, 1, 2, 3


def learned(texts=REPORTS, size=400, min_count=2, lowercase=True):
    return BytePairs.learn(texts, size, min_count, lowercase)


def adapter(texts=REPORTS, **chosen):
    chosen = {"tokeniser": "bpe", "vocabulary": 400, "max_tokens": 16, **chosen}
    text = Text(TextSource(column="report"), TextSettings(**chosen))
    text.fit(texts)
    return text


# ------------------------------------------------------------------ what is learned


def slow_merges(texts, size, min_count):
    """The algorithm as its paper says it: count everything again before each merge."""
    counts = Counter(word for text in texts for word in WORD.findall(unified(text, True)))
    words = {word: [4 + byte for byte in word.encode()] for word in counts}
    merges = []
    while BASE + len(merges) < size:
        pairs = Counter()
        for word, numbers in words.items():
            for pair in pairwise(numbers):
                pairs[pair] += counts[word]
        best = min(pairs, key=lambda pair: (-pairs[pair], pair), default=None)
        if best is None or pairs[best] < min_count:
            break
        for word, numbers in words.items():
            done, at = [], 0
            while at < len(numbers):
                hit = tuple(numbers[at : at + 2]) == best
                done.append(BASE + len(merges) if hit else numbers[at])
                at += 2 if hit else 1
            words[word] = done
        merges.append(best)
    return tuple(merges), words


@pytest.mark.parametrize(("size", "least"), [(270, 1), (340, 2), (900, 1), (900, 3)])
def test_merges_are_those_of_the_slow_loop_and_so_are_the_tokens_of_words(size, least):
    tokens = learned(size=size, min_count=least)
    merges, words = slow_merges(REPORTS, size, least)
    assert tokens.merges == merges
    assert len(tokens) == BASE + len(merges) <= size
    for text in REPORTS:
        spoken = [n for word in WORD.findall(unified(text, True)) for n in words[word]]
        assert tokens.encode(text) == spoken


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(alphabet="ab ü", max_size=12), max_size=6), st.integers(260, 275))
def test_merges_are_those_of_the_slow_loop_where_letters_repeat(texts, size):
    assert learned(texts, size).merges == slow_merges(texts, size, 2)[0]


def test_merges_are_those_of_the_tokenizers_library():
    tokenizers = pytest.importorskip("tokenizers", reason="the extra [text] is not installed")
    words = {"lung": 97, "lungs": 41, "left": 23, "effusion": 11, "effusions": 5, "low": 3}
    texts = [word for word, count in words.items() for _ in range(count)]
    theirs = tokenizers.Tokenizer(tokenizers.models.BPE())
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=True)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=BASE + 24,
        min_frequency=2,
        special_tokens=["<pad>", "<unk>", "<cls>", "<end>"],
        initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    theirs.train_from_iterator(texts, trainer)
    ours = learned(texts, BASE + 24)
    for text in ["lung lungs", "left effusions flung", "lowest effusion", "Größe"]:
        spelled = [ours.spelling(n).replace("▁", "Ġ") for n in ours.encode(text)]
        if text.isascii():
            assert theirs.encode(text.lower()).tokens == spelled
        assert len(theirs.encode(text.lower()).tokens) == len(spelled)


def test_what_is_learned_depends_on_no_order_and_a_tie_goes_to_the_lower_numbers():
    assert learned(REPORTS) == learned(REPORTS[::-1]) == learned([" ".join(REPORTS)])
    first = learned(["xy", "ab"] * 5, BASE + 1).merges[0]
    assert first == (4 + ord(" "), 4 + ord("a"))  # " a", " x", "ab" and "xy" stand there 5 times


def test_a_rare_pair_is_not_merged_and_the_size_is_kept():
    assert learned(["abcdef"], 1000, 2).merges == ()
    assert len(learned(["abcdef"], 1000, 1)) == BASE + 6
    assert len(learned(size=300, min_count=1)) == 300
    assert learned([], 300).merges == ()


# ------------------------------------------------------------------ texts


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=80) | st.text(st.characters(codec=None), max_size=20))
@example("\ud800 lone half of a pair")
@example("\x00\x1c\u200b \u3000x")
@example("é" * 200 + "_" * 200 + "9" * 200)
def test_every_text_has_numbers_that_can_be_decoded(text):
    tokens = LEARNED
    numbers = tokens.encode(text)
    assert not set(numbers) & {PAD, UNK, CLS, END}
    assert tokens.decode(numbers) == unified(text, True).removeprefix(" ")
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower())
    plain = plain.encode("utf-8", "replace").decode("utf-8")
    assert tokens.decode(numbers) == " ".join(plain.split())
    assert "".join(WORD.findall(unified(text, True))) == unified(text, True)


LEARNED = learned(size=500, min_count=1)


def test_digits_stand_by_themselves_however_often_a_number_is_seen():
    tokens = learned(["dose 120 mg", "dose 120 mg 2019"] * 50, 1000, 1)
    spelled = [tokens.spelling(number) for number in tokens.encode("dose 1201 mg")]
    assert spelled == ["▁dose", "▁", "1", "2", "0", "1", "▁mg"]
    both = [c for c in tokens.contents if len(c) > 1 and any(48 <= one < 58 for one in c)]
    assert not both


def test_tokens_are_shown_and_parts_of_characters_too():
    tokens = learned(["größe"] * 3, 262)
    shown = [tokens.spelling(n) for n in range(len(tokens))]
    assert shown[:4] == ["<pad>", "<unk>", "<cls>", "<end>"]
    assert shown[4 + ord("g")] == "g"
    assert shown[4 + 0xC3] == "<0xC3>"
    assert all(isinstance(one, str) and one for one in shown)
    assert tokens.decode([CLS, *tokens.encode("Größe"), END, PAD]) == "größe"


def test_upper_case_stays_where_asked():
    tokens = learned(["MRI"] * 4, 270, lowercase=False)
    assert tokens.decode(tokens.encode("MRI mri")) == "MRI mri"
    assert len(tokens.encode("MRI")) == 1 < len(tokens.encode("mri"))


def test_a_word_without_an_end_costs_no_square():
    tokens = learned(["a" * 4096] * 3, 300)
    assert max(map(len, WORD.findall(unified("a" * 4096, True)))) == 65
    assert len(tokens.encode("a" * 100_000)) < 100_000 / 16


# ------------------------------------------------------------------ the adapter


def local_model(folder):
    pytest.importorskip("transformers", reason="the extra [text] is not installed")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "heart", "##s", "size"]
    (folder / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    (folder / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    return {"model": folder}


@pytest.mark.parametrize("tokeniser", ["words", "trigrams", "bpe", "model"])
def test_the_end_of_a_caption_of_10000_words_is_kept(tokeniser, tmp_path):
    text = adapter(**(local_model(tmp_path) if tokeniser == "model" else {"tokeniser": tokeniser}))
    long = " ".join(np.random.default_rng(0).choice(["heart", "sizes", "xyz", "7,5"], 10_000))
    for length, raw in [(16, long), (16, long[:30]), (3, long)]:
        text.settings = text.settings.model_copy(update={"max_tokens": length})
        row = text.prepare(raw)
        real = row[row != text.tokens.pad]
        assert len(row) == length
        assert real[0] == text.tokens.cls
        assert real[-1] == text.tokens.end
        assert (row == text.tokens.end).sum() == 1
        assert row.max() < text.input_shape.vocabulary
        assert all(isinstance(text.tokens.spelling(int(number)), str) for number in row)
    place = RecordRef(subject="s", record="r")
    assert [f.code for f in text.inspect(long, place)] == ["text.long"]
    for empty in ("", " \n\t\u3000"):
        assert [(f.code, f.level) for f in text.inspect(empty, place)] == [("text.empty", "error")]


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=300), st.integers(3, 30))
def test_the_end_is_never_cut(raw, length):
    text = ADAPTER
    text.settings = text.settings.model_copy(update={"max_tokens": length})
    row = text.prepare(raw)
    end = int(np.flatnonzero(row == END)[0])
    assert row[0] == CLS
    assert end == min(length - 1, 1 + len(text.tokens.encode(raw)))
    assert (row[end + 1 :] == PAD).all()
    assert not np.isin(row[1:end], [PAD, UNK, CLS, END]).any()


ADAPTER = adapter()


def test_what_was_learned_survives_json_and_processes():
    text = adapter()
    other = Text(TextSource(column="report"), text.settings)
    other.load_state(json.loads(json.dumps(text.state())))
    assert other.tokens == text.tokens == pickle.loads(pickle.dumps(text)).tokens
    assert other.input_shape == text.input_shape
    for report in [*REPORTS, "never seen 77"]:
        assert (other.prepare(report) == text.prepare(report)).all()


@pytest.mark.parametrize("merges", [[[0, 5]], [[4, 300]], [[4, BASE]], [[4, 5], [4, 5]], [[-1, 5]]])
def test_damaged_merges_are_refused(merges):
    with pytest.raises(ArtefactError, match="byte pairs"):
        BytePairs.from_state({"merges": merges, "lowercase": True})


def test_sentences_end_at_their_signs():
    tokens = ADAPTER.tokens
    stops = {tokens.spelling(number) for number in tokens.stops}
    assert {".", "!", "?", ";"} <= stops <= {".", "!", "?", ";", "▁.", "▁!", "▁?", "▁;"}


def test_a_vocabulary_without_room_for_bytes_is_refused():
    with pytest.raises(ValidationError, match="260"):
        TextSettings(tokeniser="bpe", vocabulary=259)
    assert adapter(vocabulary=260).input_shape.vocabulary == 260
    assert not math.isnan(adapter(vocabulary=260).prepare("x").sum())
