"""Encoders of others and what compares them: weights, settings, cards, suites, lists, vectors."""

from __future__ import annotations

import json
import zipfile
from argparse import Namespace
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from benchmarks.faults.form import Format

SIZES: Mapping[str, Any] = {
    "encoder_embed_dim": 16, "encoder_layers": 1, "encoder_attention_heads": 2,
    "encoder_ffn_embed_dim": 24, "conv_pos": 4, "conv_pos_groups": 2, "in_d": 12,
    "conv_feature_layers": "[(8, 2, 2)] * 4", "activation_fn": "gelu", "conv_bias": False,
}  # fmt: skip
"""What a file of fairseq says of a small network."""
CONFIG: Mapping[str, Any] = {
    "model_type": "hubert", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 24, "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2,
    "conv_kernel": [10, 3, 3, 2, 2], "conv_stride": [4, 2, 2, 2, 2], "conv_dim": [8] * 5,
    "hidden_act": "gelu", "layer_norm_eps": 1e-5, "do_stable_layer_norm": False,
}  # fmt: skip
"""The same of a transformers folder."""


def _state(model: str, said: Mapping[str, Any]) -> dict[str, Any]:
    """Tensors of a small network by the names of ours, which are read as the authors' are."""
    import torch

    from medmcl.encoders.published.card import read_card
    from medmcl.encoders.published.file import build_net
    from medmcl.encoders.published.wav2vec import told_by

    torch.manual_seed(0)
    card = read_card(model)
    return dict(build_net(card, card.default, told_by({"cfg": said})).state_dict())


def _fairseq(folder: Path) -> None:
    """A file with its settings pickled as fairseq does, and the pickle of it alone."""
    import torch

    content = {"model": _state("ecg_fm", SIZES), "cfg": {"model": Namespace(**SIZES)}}
    torch.save(content, folder / "w.pt")
    with zipfile.ZipFile(folder / "w.pt") as packed:
        (name,) = [one for one in packed.namelist() if one.endswith("/data.pkl")]
        (folder / "data.pkl").write_bytes(packed.read(name))


def _read_fairseq(folder: Path) -> Any:
    """Read the file with the pickle that stands beside it, packed soundly."""
    with zipfile.ZipFile(folder / "w.pt") as packed:
        parts = {one: packed.read(one) for one in packed.namelist()}
    name = next(one for one in parts if one.endswith("/data.pkl"))
    parts[name] = (folder / "data.pkl").read_bytes()
    with zipfile.ZipFile(folder / "again.pt", "w") as packed:
        for one, content in parts.items():
            packed.writestr(one, content)
    return _loaded("ecg_fm", "again.pt")(folder)


def _transformers(folder: Path) -> None:
    from safetensors.torch import save_file

    save_file(_state("hubert_ecg", CONFIG), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG))


def _loaded(model: str, name: str) -> Callable[[Path], Any]:
    """Reads weights into their network: its values, and the sizes that the file says."""

    def read(folder: Path) -> Any:
        from medmcl.encoders.published.model import load_model

        found = load_model(model, folder / name)
        weights = {key: one.numpy().tobytes() for key, one in found.net.state_dict().items()}
        return [repr(found.sizes), weights]

    return read


def _card(folder: Path) -> None:
    from medmcl.encoders.published.card_files import CARDS

    (folder / "own.yaml").write_bytes((CARDS / "ecg_fm.yaml").read_bytes())


def _read_card(folder: Path) -> Any:
    import os
    from unittest.mock import patch

    from medmcl.encoders.published.card import read_card
    from medmcl.encoders.published.card_files import FOLDERS

    with patch.dict(os.environ, {FOLDERS: str(folder)}):
        return read_card.__wrapped__("own").model_dump_json()


def _suite(folder: Path) -> None:
    from medmcl.stages.benchmark.suite import SUITES

    (folder / "own.yaml").write_bytes((SUITES / "ptbxl.yaml").read_bytes())


def _read_suite(folder: Path) -> Any:
    from medmcl.stages.benchmark.suite import read_suite

    return read_suite(folder / "own.yaml")[1].model_dump_json()


LISTS: Mapping[str, str] = {
    "csv": "subject,record\n" + "".join(f"s{n:03d},r{n:03d}\n" for n in range(10, 20)),
    "txt": "".join(f"s{n:03d}\n" for n in range(10, 20)),
}


def _list(kind: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        from benchmarks.faults.formats import write_cohort

        write_cohort(folder)
        (folder / f"list.{kind}").write_text(LISTS[kind])

    return write


def _read_list(kind: str) -> Callable[[Path], Any]:
    """Reads who of a cohort is in a list."""
    opened = []

    def read(folder: Path) -> Any:
        from medmcl.data.cohort.cohort import open_cohort
        from medmcl.stages.evaluate.pretraining_list import ListSearch

        opened.append(opened[0] if opened else open_cohort(folder))
        return repr(ListSearch.of([str(folder / f"list.{kind}")]).found(["m"], opened[0], "clinic"))

    return read


SAID = {
    "made_by": {"run": "r", "seen": {"ptbxl": "all"}, "clean": ["sph"], "published": {}},
    "records": [["s1", "r1", "0a0a"]], "cohort": "c", "cohort_fingerprint": "0b0b",
}  # fmt: skip


def _beside(folder: Path) -> None:
    """Vectors as a text table, and who made them beside."""
    from medmcl.core.sealed import file_digest

    file = folder / "v.csv"
    file.write_text("subject,e0\n" + "".join(f"s{n},{n / 7}\n" for n in range(9)))
    said = json.dumps({"of": file_digest(file), "medmcl": SAID})
    (folder / "v.csv.medmcl.json").write_text(said)


def _read_beside(folder: Path) -> Any:
    from medmcl.stages.run.embedding import provenance_of_table

    return provenance_of_table(folder / "v.csv")


def _vectors_of(folder: Path) -> Any:
    """What a benchmark keeps of an encoder: made where it is not there, else read."""
    import pandas as pd

    from medmcl.stages.benchmark.contenders import Field

    values = np.arange(12.0).reshape(6, 2)
    adapter = SimpleNamespace(state=dict)
    embedding = SimpleNamespace(
        prepared=SimpleNamespace(adapters={"ecg": adapter}, index=lambda _: np.arange(6)),
        provenance={}, whom="all", batch=4, width=2, records=None, vectors=lambda _: values,
        tables=lambda parts: (pd.DataFrame(one, columns=["e0", "e1"]) for one in parts),
    )  # fmt: skip
    field: Any = Field(cohort=None, modality="ecg", folder=folder, records="r")  # type: ignore[arg-type]  # of no people
    return field._laid(embedding)[0]


def _vectors(folder: Path) -> None:
    _vectors_of(folder)
    for file in [*folder.iterdir()]:
        (folder / f"kept{file.suffix}").write_bytes(file.read_bytes())


def _read_vectors(folder: Path) -> Any:
    for file in (folder / "kept.parquet", folder / "kept.seal"):
        named = next(one for one in folder.iterdir() if one.stem != "kept"
                     and one.suffix == file.suffix)  # fmt: skip
        named.unlink()
        named.write_bytes(file.read_bytes())
    return _vectors_of(folder)


def model_formats() -> dict[str, Format]:
    """Every such format by name."""
    folder = _loaded("hubert_ecg", ".")
    return {
        "weights .pt of a model": Format(_fairseq, _loaded("ecg_fm", "w.pt"), ("w.pt",)),
        "settings in a .pt": Format(_fairseq, _read_fairseq, ("data.pkl",)),
        "config.json of a model": Format(_transformers, folder, ("config.json",)),
        "weights .safetensors of a model": Format(_transformers, folder, ("model.safetensors",)),
        "card of a model": Format(_card, _read_card, ("own.yaml",)),
        "suite": Format(_suite, _read_suite, ("own.yaml",)),
        "list of pretraining .csv": Format(_list("csv"), _read_list("csv"), ("list.csv",)),
        "list of pretraining .txt": Format(_list("txt"), _read_list("txt"), ("list.txt",)),
        "who made vectors, beside a .csv": Format(
            _beside, _read_beside, ("v.csv.medmcl.json", "v.csv")
        ),
        "vectors of a benchmark": Format(
            _vectors, _read_vectors, ("kept.parquet", "kept.seal"), sealed=True
        ),
    }
