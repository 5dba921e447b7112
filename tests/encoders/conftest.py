"""One small case of every encoder; a new encoder without a case fails a test."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medmcl.core.batch import InputShape
from medmcl.core.graph_rows import Graphs, pack
from medmcl.encoders import build_encoder


@dataclass(frozen=True)
class Case:
    encoder: str
    shape: InputShape
    settings: dict[str, Any] = field(default_factory=dict)

    def build(self, seed: int = 0) -> nn.Module:
        torch.manual_seed(seed)
        return build_encoder(self.encoder, self.shape, self.settings)

    def rows(self, count: int = 3, seed: int = 0) -> Tensor:
        generator = torch.Generator(device="cpu").manual_seed(seed)
        size = (count, *self.shape.shape)
        if self.shape.kind == "text":
            x = torch.randint(1, self.shape.vocabulary, size, generator=generator, device="cpu")
            for row in range(count):
                x[row, max(1, self.shape.shape[0] - 2 * row - 1) :] = 0
            return x
        if self.shape.kind == "codes":
            high = torch.tensor([self.shape.vocabulary, 900], device="cpu")
            x = (torch.rand(size, generator=generator, device="cpu") * (high - 2)).long() + 2
            x[0, 1, 1] = -1
            for row in range(count):
                x[row, max(1, self.shape.shape[0] - 2 * row - 1) :] = 0
            return x
        if self.shape.kind == "graph":
            return graph_rows(self.shape, count, generator)
        x = torch.randn(size, generator=generator, device="cpu")
        if self.shape.kind == "tabular":
            for column, levels in enumerate(self.shape.cardinalities):
                if levels:
                    x[:, 0, column] = torch.randint(
                        0, levels, (count,), generator=generator, device="cpu"
                    ).float()
            x[:, 1] = (x[:, 1] > -0.5).float()
            x[0, 1], x[1, 1] = 1.0, 0.0
        return x


def graph_rows(shape: InputShape, count: int, generator: torch.Generator) -> Tensor:
    """Random symmetric graphs with about half of all edges; the first lacks its last region."""
    regions, channels = shape.shape[0], shape.channels
    features = shape.shape[1] - 1 - channels * regions
    edges = torch.randn(count, channels, regions, regions, generator=generator, device="cpu")
    edges = (edges * (edges > 0 if channels > 1 else edges.abs() > 0.6)).triu(1)
    nodes = torch.randn(count, regions, features, generator=generator, device="cpu")
    present = torch.ones(count, regions, dtype=torch.bool, device="cpu")
    present[0, -1] = False
    pairs = present[:, None, :, None] & present[:, None, None]
    edges = torch.where(pairs, edges + edges.transpose(2, 3), 0.0)
    return pack(Graphs(present, edges, nodes * present[..., None]))


def _graph(regions: int, channels: int, features: int) -> InputShape:
    shape = (regions, 1 + channels * regions + features)
    return InputShape(kind="graph", shape=shape, channels=channels)


def _cmr(*shape: int) -> InputShape:
    return InputShape(kind="cmr", shape=shape)


ECG = InputShape(kind="ecg", shape=(3, 40))
TINY_BERT = Path(__file__).parent / "tiny_bert"
TINY_DINOV2 = Path(__file__).parent / "tiny_dinov2"
TINY_SIGLIP = Path(__file__).parent / "tiny_siglip"
MAPS = Path(__file__).parent / "gene_maps"
GENOTYPES = InputShape(
    kind="genetics",
    shape=(2, 8),
    cardinalities=(0,) * 8,
    names=tuple(f"rs{n}" for n in range(8)),
    places=("1:100", "1:5000", "1:20000", "2:100", "2:40000", "3:100", "3:100000", "X:100"),
)
SMALL_VIT = {"patch": 10, "width": 16, "depth": 2, "heads": 2}
THIN = {"network": "resnet10", "widen": 0.125, "norm": "group"}
TEXT = InputShape(kind="text", shape=(7,), vocabulary=20)
CODES = InputShape(kind="codes", shape=(7, 2), vocabulary=20)
CASES = {
    "ecg_vit": Case("ecg_vit", ECG, SMALL_VIT),
    "ecg_vit_joint": Case(
        "ecg_vit", ECG, SMALL_VIT | {"joint_leads": True, "trainable_positions": True}
    ),
    "resnet1d": Case("resnet1d", ECG, {"widths": (8, 16), "dropout": 0.1}),
    "resnet1d_both": Case(
        "resnet1d", ECG, {"widths": (8, 12), "norm": "group", "pool": "mean_max"}
    ),
    "timm": Case(
        "timm", _cmr(2, 32, 32), {"model": "resnet10t", "options": {"zero_init_last": False}}
    ),
    "timm_vit": Case(
        "timm",
        _cmr(2, 32, 32),
        {
            "model": "vit_tiny_patch16_224",
            "options": {"embed_dim": 24, "depth": 2, "num_heads": 2, "patch_size": 8},
        },
    ),
    "small_cnn": Case("small_cnn", _cmr(3, 20, 17), {"widths": (8, 12)}),
    "monai3d": Case("monai3d", _cmr(2, 8, 20, 16), THIN),
    "cine": Case(
        "cine",
        _cmr(5, 12, 12),
        {"frame": {"name": "small_cnn", "widths": [8]}, "width": 16, "heads": 2},
    ),
    "cine_volumes": Case(
        "cine",
        _cmr(4, 2, 12, 12),
        {"frame": {"widths": [8]}, "width": 16, "heads": 2, "drop_path": 0.1},
    ),
    "text_transformer": Case("text_transformer", TEXT, {"width": 16, "heads": 2, "dropout": 0.1}),
    "text_cls": Case(
        "text_transformer", TEXT, {"width": 16, "heads": 2, "depth": 1, "pool": "cls"}
    ),
    "clip_text": Case("clip_text", TEXT, {"width": 16, "heads": 2, "depth": 2}),
    "hf_text": Case("hf_text", TEXT, {"path": TINY_BERT, "pretrained": False}),
    "hf_text_cls": Case("hf_text", TEXT, {"path": TINY_BERT, "pretrained": False, "pool": "cls"}),
    "code_transformer": Case("code_transformer", CODES, {"width": 16, "heads": 2, "dropout": 0.1}),
    "lookup": Case("lookup", CODES, {"width": 6}),
    "hf_image": Case("hf_image", _cmr(3, 16, 24), {"path": TINY_DINOV2, "pretrained": False}),
    "hf_image_mean": Case(
        "hf_image", _cmr(2, 16, 16), {"path": TINY_SIGLIP, "pretrained": False, "pool": "mean"}
    ),
    "tabular_mlp": Case(
        "tabular_mlp",
        InputShape(kind="tabular", shape=(2, 5), cardinalities=(0, 3, 0, 4, 0)),
        {"cell_width": 4, "hidden": 12, "width": 10, "dropout": 0.1},
    ),
    "brainnet_cnn": Case(
        "brainnet_cnn", _graph(6, 2, 3), {"edges": (3, 4), "nodes": 8, "width": 10}
    ),
    "graph_dense": Case("graph_dense", _graph(6, 1, 3), {"width": 10, "dropout": 0.1}),
    "graph_dense_concat": Case(
        "graph_dense", _graph(6, 2, 3), {"width": 10, "conv": "gin", "pool": "concat"}
    ),
    "graph_pyg": Case("graph_pyg", _graph(6, 2, 3), {"width": 10, "conv": "gcn", "pool": "max"}),
    "ecg_jepa": Case("ecg_jepa", InputShape(kind="ecg", shape=(12, 250)), {"variant": "vitxs"}),
    "merl": Case("merl", InputShape(kind="ecg", shape=(12, 400))),
    "snp_pathway": Case(
        "snp_pathway",
        GENOTYPES,
        {
            "genes": MAPS / "genes.csv",
            "pathways": MAPS / "pathways.gmt",
            "interactions": MAPS / "interactions.csv",
            "channels": 2,
            "rest": 3,
            "width": 10,
            "dropout": 0.1,
        },
    ),
    "snp_bottleneck": Case("snp_pathway", GENOTYPES, {"rest": 4, "width": 10}),
}


@pytest.fixture(params=list(CASES))
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture
def cases() -> dict[str, Case]:
    return CASES
