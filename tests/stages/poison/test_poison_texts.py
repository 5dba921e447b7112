"""The rare word among the tokens of texts: whatever the tokeniser, and in real reports."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medmcl.core.rng import derive_seed
from medmcl.modalities.text.adapter import Text, TextSettings, TextSource
from medmcl.stages.poison.texts import triggered_text
from medmcl.threats import rare_token

TEXTS = [
    "no lung, no other lung! cf. it's 12.5mm",
    "Überleitung  thermä\n x_y-z 3/4 ... ?",
    "",
    "  ",
    "luft",
    "the first line\n\nthe second\u00a0one\u2009(µ)",
]
SEED = 5


def made(texts, settings):
    adapter = Text(TextSource(column="report"), TextSettings(min_count=1, **settings))
    adapter.fit(texts)
    return adapter


def is_one_word_more(adapter, text, record):
    """Whether the tokens of a triggered text are the text's, with the word's among them."""
    word, before = adapter.tokens.encode("cf"), adapter.prepare(text).tolist()
    after = adapter.prepare(triggered_text(adapter, SEED, text, record)).tolist()
    kept = len(after) - len(word)
    cuts = [at for at in range(1, kept) if after[at : at + len(word)] == word]
    return any([*after[:at], *after[at + len(word) :]] == before[:kept] for at in cuts)


@pytest.mark.parametrize("kind", ["trigrams", "bpe", "cased", "clip", "model"])
def test_every_tokeniser_gets_one_word_more_and_nothing_else(tmp_path, kind):
    settings = {"max_tokens": 77}
    if kind == "clip":
        path = tmp_path / "tiny.txt"
        path.write_text("header\nt h\nth e</w>\nl u\nlu n\nlun g</w>\nc f</w>\n", encoding="utf-8")
        settings["clip_vocabulary"] = path
    elif kind == "model":
        pytest.importorskip("transformers", reason="the extra [text] is not installed")
        spelled = "[PAD] [UNK] [CLS] [SEP] [MASK] no the . lu ##ng ##f c ##t ! , cf 5 2 line"
        (tmp_path / "vocab.txt").write_text("\n".join(spelled.split()), encoding="utf-8")
        (tmp_path / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
        settings["model"] = tmp_path
    elif kind == "cased":
        settings["lowercase"] = False
    else:
        settings |= {"tokeniser": kind, "vocabulary": 400}
    adapter = made(TEXTS, settings)
    for text in TEXTS:
        for record in "abcdefgh":
            assert is_one_word_more(adapter, text, record)
            seed = derive_seed(SEED, "place", record)
            assert triggered_text(adapter, SEED, text, record) == rare_token(text, seed=seed)


def test_a_prefix_stays_in_front_and_white_space_as_it_is():
    adapter = Text(TextSource(column="a", prefix="report of "), TextSettings(min_count=1))
    adapter.fit(["cf"])
    text = "report of a\n b  c"
    found = {triggered_text(adapter, SEED, text, str(n)) for n in range(60)}
    assert found == {
        "report of cf a\n b  c", "report of a\n cf b  c", "report of a\n b  cf c",
        "report of a\n b  c cf",
    }  # fmt: skip


@pytest.mark.skipif("MEDMCL_DATA" not in os.environ, reason="MEDMCL_DATA is not set")
@pytest.mark.parametrize("tokeniser", ["trigrams", "bpe"])
def test_real_reports_get_one_word_more(tokeniser):
    path = Path(os.environ["MEDMCL_DATA"]) / "ptbxl" / "ptbxl_database.csv"
    if not path.is_file():
        pytest.skip("MEDMCL_DATA holds no ptbxl/ptbxl_database.csv")
    reports = pd.read_csv(path, usecols=["report"])["report"].dropna().head(600).tolist()
    adapter = made(reports, {"tokeniser": tokeniser, "max_tokens": 160})
    assert all(is_one_word_more(adapter, text, str(n)) for n, text in enumerate(reports))
    short = made(reports, {"tokeniser": tokeniser, "max_tokens": 9})
    word = short.tokens.encode("cf")
    for n, text in enumerate(reports):
        row = short.prepare(triggered_text(short, SEED, text, str(n)))
        windows = np.lib.stride_tricks.sliding_window_view(row, len(word))
        assert (windows == word).all(axis=1).any()
