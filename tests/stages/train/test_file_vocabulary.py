"""Weights of another run: their tokens are compared, and can be taken along."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from medmcl.core.errors import ConfigError
from medmcl.encoders.shared.tower import SharedTower
from medmcl.encoders.towers import Towers
from medmcl.modalities.codes.adapter import Codes
from medmcl.modalities.text.adapter import Text, TextSettings, TextSource
from medmcl.stages.train.file_weights import check_vocabulary, load_files
from medmcl.stages.train.spec import TrainSpec

HERE = ["no effusion seen today", "small effusion seen now"] * 3
THERE = ["old infarct with block", "new infarct with pause"] * 3  # as many words
SHARED = {"width": 16, "depth": 1, "heads": 2, "out": 8, "experts": None}


def text(texts=None, **settings):
    chosen = {"max_tokens": 8, "min_count": 1, "tokeniser": "words", **settings}
    adapter = Text(TextSource(column="report"), TextSettings(**chosen))
    if texts is not None:
        adapter.fit(texts)
    return adapter


def towers(adapters, kind):
    shapes = {name: one.input_shape for name, one in adapters.items()}
    torch.manual_seed(0)
    if kind == "shared":
        return SharedTower.build(shapes, SHARED, seed=lambda _: torch.manual_seed(0))
    tree = {"encoder": {"name": "text_transformer", "width": 16, "depth": 1, "heads": 2}}
    return Towers.build(shapes, dict.fromkeys(shapes, tree))


def write_run(folder, adapters, weights, prefix="model."):
    """What of a run folder is read here."""
    entries = {n: {"kind": a.kind, "state": a.state()} for n, a in adapters.items()}
    file = folder / "checkpoint" / "contrast" / "best.safetensors"
    file.parent.mkdir(parents=True)
    (folder / "preprocessing.json").write_text(json.dumps(entries), encoding="utf-8")
    save_file({f"{prefix}{name}": value for name, value in weights.items()}, file)
    return file


def spec(names, **weights):
    objective = {"cross_modal": {"kind": "cross_modal"}}
    return TrainSpec(stage="train", name="s", towers=names, objectives=objective, steps=1,
                     weights=weights)  # fmt: skip


def test_a_shared_tower_with_another_runs_words_is_refused_and_taken_with_its_tokeniser(tmp_path):
    there = {"note": text(THERE)}
    file = write_run(tmp_path / "run", there, towers(there, "shared").state_dict())
    asked = spec(("note",), shared={"path": file, "names": "run"})

    def load(adapter):
        return load_files(towers({"note": adapter}, "shared"), asked, {"note": adapter})

    assert len(text(HERE).tokens) == len(text(THERE).tokens)  # every tensor fits
    with pytest.raises(ConfigError) as error:
        load(text(HERE))
    words = len(text(HERE).tokens) - 4
    assert f"{words} of {words + 4} tokens differ; the first is number 4" in str(error.value)
    assert "weights of 'note'" in str(error.value)
    assert error.value.fix == f"inputs.note.vocabulary_of: {tmp_path / 'run'}"
    taken = text(HERE, vocabulary_of=tmp_path / "run")
    assert taken.state() == there["note"].state()
    (line,) = load(taken)
    assert "warning" not in line
    other = text(THERE, lowercase=False)
    with pytest.raises(ConfigError, match="lowercase False here, True there"):
        load(other)
    more = text([*HERE, "and more words"])
    assert load(more)[1].startswith(
        f"warning: stage s, weights.shared: the table of 'note' starts from the seed: {words + 4} "
        f"tokens in the file, {words + 7} here; inputs.note.vocabulary_of"
    )
    (tmp_path / "run" / "preprocessing.json").unlink()
    assert load(text(HERE))[1].startswith("warning: stage s, weights.shared: ")


@pytest.mark.parametrize("name", ["report", "renamed"])
def test_a_single_tower_is_compared_with_that_name_or_the_only_one(tmp_path, name):
    there = {name: text(THERE)}
    encoder = towers(there, "single").tower(name).encoder
    file = write_run(tmp_path / "run", there, encoder.state_dict(), prefix="")
    asked = spec(("report",), report={"path": file})
    own = {"report": text(HERE)}
    with pytest.raises(ConfigError, match=r"weights\.report"):
        load_files(towers(own, "single"), asked, own)
    own = {"report": text(THERE)}
    (line,) = load_files(towers(own, "single"), asked, own)
    assert "warning" not in line


def test_files_without_the_table_are_not_compared(tmp_path):
    there = {"note": text(THERE)}
    table = towers(there, "shared").state_dict()
    kept = {key: value for key, value in table.items() if not key.endswith("embed.weight")}
    assert len(kept) == len(table) - 1
    file = write_run(tmp_path / "run", there, kept)
    own = {"note": text(HERE)}
    asked = spec(("note",), shared={"path": file, "names": "run"})
    assert len(load_files(towers(own, "shared"), asked, own)) == 1


def test_codes_and_other_kinds_of_tokenisers_are_told_apart(tmp_path):
    def codes(*known):
        adapter = Codes(Codes.Source(reader="events"), Codes.Settings())
        adapter.load_state({"codes": ["<pad>", "<unk>", *known]})
        return adapter

    file = write_run(tmp_path / "run", {"icd": codes("I21", "I50"), "note": text(THERE)}, {})
    same = check_vocabulary("icd", codes("I21", "I50"), file, "w", same_name=True)
    assert same == []
    with pytest.raises(ConfigError) as error:
        check_vocabulary("icd", codes("I50", "I21"), file, "w", same_name=True)
    assert "2 of 4 tokens differ; the first is number 2: 'I50' here, 'I21' there" in str(
        error.value
    )
    pairs = text(HERE, tokeniser="bpe", vocabulary=300)
    with pytest.raises(ConfigError, match="another kind of tokeniser"):
        check_vocabulary("note", pairs, file, "w", same_name=True)
    (line,) = check_vocabulary("letter", text(HERE), file, "w", same_name=True)
    assert "no such modality of text" in line


def test_the_tokeniser_of_a_run_is_named_without_doubt(tmp_path):
    run = tmp_path / "run"
    write_run(run, {"a": text(HERE), "b": text(THERE)}, {})
    with pytest.raises(ConfigError, match="several text modalities"):
        text(HERE, vocabulary_of=run)
    assert text(HERE, vocabulary_of=run, vocabulary_name="b").state() == text(THERE).state()
    with pytest.raises(ConfigError, match=r"text modality 'c'"):
        text(HERE, vocabulary_of=run, vocabulary_name="c")
    with pytest.raises(ConfigError, match="not the folder of a run"):
        text(HERE, vocabulary_of=tmp_path / "none")
    (run / "preprocessing.json").write_text('{"ecg": {"kind": "ecg", "state": {}}}')
    with pytest.raises(ConfigError, match=r"(?s)no text modality.*ecg \(ecg\)"):
        text(HERE, vocabulary_of=run)
    (run / "preprocessing.json").write_text("{")
    with pytest.raises(ConfigError, match="damaged"):
        text(HERE, vocabulary_of=run)
    travels = text(vocabulary_of=run)  # of a run whose source is gone
    travels.load_state(text(THERE).state())
    np.testing.assert_array_equal(travels.prepare(THERE[0]), text(THERE).prepare(THERE[0]))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"vocabulary_of": "r", "model": "m"}, "not beside"),
        ({"vocabulary_of": "r", "clip_vocabulary": "c"}, "not beside"),
        ({"vocabulary_name": "report"}, "only vocabulary_of"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        TextSettings(**settings)
