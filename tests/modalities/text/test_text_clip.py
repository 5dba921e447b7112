"""CLIP's tokeniser: by hand, against another implementation, against open_clip, and bad files."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest
import torch
from golden_numbers import FOLDER
from pydantic import ValidationError
from row_draws import row_generator

from medmcl.core.contracts import RecordRef
from medmcl.core.errors import ArtefactError, ConfigError
from medmcl.modalities.text.adapter import Text, TextAugment, TextSettings, TextSource
from medmcl.modalities.text.clip import ClipTokens, clean, split_clip_words

MERGES = ["t h", "th e</w>", "n o</w>", "l u", "lu n", "lun g</w>", "r a", "e r</w>", "Ã ¤"]
PLAIN = [
    "no lung",
    "The   LUNG, the other lung!",
    "it's 12.5mm (no!!) they'll",
    "Übergang  älter thermä",
    "!",
    "tab\tnew\nline",
    "x_y-z 3/4 ... ?",
    "日本語 ü",
    "theraththe",
]


def write(folder, merges=MERGES):
    path = folder / "tiny.txt"
    path.write_text("\n".join(['"a header"', *merges, ""]), encoding="utf-8")
    return path


@pytest.fixture
def tokens(tmp_path):
    return ClipTokens.from_file(write(tmp_path))


def adapter(path, **settings):
    text = Text(TextSource(column="x"), TextSettings(clip_vocabulary=path, **settings))
    text.fit([])
    return text


def test_numbers_by_hand_are_one_above_clip_s(tokens):
    # 256 letters from '!', the same with </w>, nine merges, start, end; and 0 is padding
    assert tokens.encode("!") == [256 + 1]
    assert tokens.encode("a!") == [256 + ord("a") - ord("!") + 1, 257]
    assert tokens.encode("ab") == [ord("a") - ord("!") + 1, 256 + ord("b") - ord("!") + 1]
    assert tokens.encode("the") == [512 + 1 + 1]
    assert tokens.encode("No lung") == [512 + 2 + 1, 512 + 5 + 1]
    assert tokens.encode("luno") == [512 + 3 + 1, 512 + 2 + 1]  # the merge that stands first wins
    assert tokens.encode("luna")[0] == 512 + 4 + 1
    assert (tokens.cls, tokens.end, len(tokens)) == (512 + 9 + 1, 512 + 9 + 2, 512 + 9 + 3)
    assert 0 not in tokens.encode("".join(map(chr, range(32, 1000))))


def test_numbers_are_those_of_another_implementation(tokens, tmp_path):
    lib = pytest.importorskip("tokenizers", reason="the extra [text] is not installed")
    vocab = {symbol: number - 1 for symbol, number in tokens.numbers.items()}
    model = lib.models.BPE(
        vocab=vocab, merges=list(tokens.merges), end_of_word_suffix="</w>",
        continuing_subword_prefix="", fuse_unk=False,
    )  # fmt: skip
    other = lib.Tokenizer(model)
    norm = lib.normalizers
    other.normalizer = norm.Sequence(
        [norm.NFC(), norm.Replace(lib.Regex(r"\s+"), " "), norm.Lowercase()]
    )
    words = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    before = lib.pre_tokenizers
    other.pre_tokenizer = before.Sequence(
        [
            before.Split(lib.Regex(words), behavior="removed", invert=True),
            before.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    for text in PLAIN:
        assert tokens.encode(text) == [n + 1 for n in other.encode(text).ids], text
    other.save(str(tmp_path / "tokenizer.json"))
    again = ClipTokens.from_file(tmp_path / "tokenizer.json")
    assert again.merges == tokens.merges


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("don\u2019t \u201cquote\u201d \u2018x\u201b", "don't \"quote\" 'x'"),
        ("\ufb01brosis e\ufb00usion \ufb04 \ufb05 \u0133", "fibrosis effusion ffl \u017ft ij"),
        ("\uff26\uff35\uff2c\uff2c\u3000\uff57\uff01", "full w!"),
        ("cafe\u0301", "caf\u00e9"),
        ("\x1b[31mred\x1b[0m \x00x\x07", "red x"),
        ("&lt;b&gt; &amp;amp; <p>&eacute;", "<b> & <p>é"),
        (" a\t\n b\u00a0c ", "a b c"),
        ("\x91x\x92 \x85", "'x' …"),
        ("10³ m² Å µ", "10³ m² å µ"),
        ("a \ud800 b", "a \ufffd b"),
    ],
)
def test_texts_are_cleaned_as_open_clip_cleans_them(given, expected):
    assert clean(given) == expected


def test_words_are_split_as_unicode_says():
    assert split_clip_words("m²½ ⅷ") == ["m", "²", "½", "ⅷ"]
    assert split_clip_words("a_b ''s \"'s it's") == [
        "a",
        "_",
        "b",
        "''",
        "s",
        "\"'",
        "s",
        "it",
        "'s",
    ]
    assert split_clip_words("हिन्दी")[0] == "ह"
    assert split_clip_words("") == []


def test_open_clip_s_own_file_gives_open_clip_s_numbers():
    root = os.environ.get("MEDMCL_DATA")
    path = Path(root or ".") / "clip" / "bpe_simple_vocab_16e6.txt.gz"
    if root is None or not path.exists():
        pytest.skip("MEDMCL_DATA is not set, or has no clip/bpe_simple_vocab_16e6.txt.gz")
    text = adapter(path, max_tokens=77)
    assert text.input_shape.vocabulary == 49408 + 1
    cases = json.loads((FOLDER / "open_clip_tokens.json").read_text(encoding="utf-8"))
    for one in cases:
        theirs = one["numbers"]
        length = theirs.index(49407) + 1
        expected = [n + 1 for n in theirs[:length]] + [0] * (77 - length)
        assert text.prepare(one["text"]).tolist() == expected, one["text"]


def test_the_end_token_is_never_cut_and_padding_is_no_exclamation_mark(tmp_path):
    text = adapter(write(tmp_path), max_tokens=6)
    end = text.tokens.end
    assert text.prepare("the " * 10_000).tolist() == [end - 1, *[514] * 4, end]
    assert text.prepare("").tolist() == [end - 1, end, 0, 0, 0, 0]
    assert text.prepare("! !").tolist() == [end - 1, 257, 257, end, 0, 0]
    (finding,) = text.inspect("the " * 5, RecordRef(subject="s", record="r", paths={}))
    assert finding.code == "text.long"
    assert text.input_shape.vocabulary == end + 1


def test_a_text_cannot_hold_a_special_token(tmp_path):
    text = adapter(write(tmp_path), max_tokens=40)
    for spelled in ("<end_of_text>", "<|endoftext|>", "<start_of_text>"):
        row = text.prepare(f"no {spelled} lung").tolist()
        assert row.count(text.tokens.end) == row.count(text.tokens.cls) == 1


def test_a_dropped_token_leaves_an_empty_place_and_the_ends_stay(tmp_path):
    text = adapter(write(tmp_path), max_tokens=8)
    rows = torch.from_numpy(text.encode(["the lung the lung", "no"]))
    generator = row_generator()
    seen = text.augment(rows, TextAugment(dropout=1.0), generator)
    end = text.tokens.end
    assert seen.tolist() == [[end - 1, 0, 0, 0, 0, end, 0, 0], [end - 1, 0, end, 0, 0, 0, 0, 0]]


def test_packed_or_not_the_file_is_the_same_and_the_run_does_not_need_it(tmp_path):
    path = write(tmp_path)
    packed = tmp_path / "tiny.txt.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert ClipTokens.from_file(packed).merges == ClipTokens.from_file(path).merges
    state = json.loads(json.dumps(adapter(path).state()))
    gone = Text(TextSource(column="x"), TextSettings(clip_vocabulary=tmp_path / "gone.txt"))
    gone.load_state(state)
    assert gone.tokens.encode("the lung ä") == ClipTokens.from_file(path).encode("the lung ä")
    state["merges"][0] = "t a"
    with pytest.raises(ArtefactError, match="was changed"):
        gone.load_state(state)


def test_a_missing_vocabulary_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"gone\.txt: there is no such vocabulary"):
        adapter(tmp_path / "gone.txt")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x1f\x8b\x08 cut",
        b"\xff\xfe\x00",
        b"header\none two three\n",
        b'{"model": {}}',
        b"{broken",
        json.dumps({"model": {"merges": ["a b</w>"], "vocab": {"ab</w>": 3}}}).encode(),
    ],
)
def test_what_is_no_vocabulary_of_clip_is_refused(tmp_path, content):
    (tmp_path / "v").write_bytes(content)
    with pytest.raises(ConfigError, match="is not CLIP's vocabulary"):
        adapter(tmp_path / "v")


def test_two_tokenisers_are_refused(tmp_path):
    with pytest.raises(ValidationError, match="clip_vocabulary: not beside model"):
        TextSettings(clip_vocabulary=tmp_path, model=tmp_path)
