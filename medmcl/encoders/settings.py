"""What can be set of each encoder; apart from the encoders, which need torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from medmcl.core.config import Config, Depth

Norm = Literal["batch", "group"]
Network = Literal["resnet10", "resnet18", "resnet34", "resnet50", "densenet121"]
Conv = Literal["graphconv", "gcn", "gin"]
Pool = Literal["mean", "sum", "max", "concat"]


class ECGViTSettings(Config):
    """Sizes; the defaults are the paper's."""

    patch: int = Field(default=100, ge=1)
    """Samples a patch: 0.2 s at 500 Hz (Turgut et al. 2025)."""
    joint_leads: bool = False
    """Patches span all leads: a twelfth of the tokens. Not in the paper."""
    width: int = Field(default=384, gt=0, multiple_of=4)
    """Width of a token (Turgut et al. 2025)."""
    depth: Depth = 3
    """Transformer blocks (Turgut et al. 2025)."""
    heads: int = Field(default=6, ge=1)
    """Attention heads (Turgut et al. 2025)."""
    mlp_ratio: float = Field(default=4.0, gt=0)
    """Width of a block's hidden layer over its width (Turgut et al. 2025)."""
    drop_path: float = Field(default=0.0, ge=0, lt=1)
    """In the last block; rises linearly from 0. 0 to 0.2 in their fine-tuning."""
    trainable_positions: bool = False
    """Fixed in masked modelling, trainable afterwards in the authors' code."""


class ResNet1dSettings(Config):
    """Sizes; ours, close to the small ResNets of the PTB-XL benchmarks."""

    widths: tuple[int, ...] = Field(default=(64, 128, 196, 256), min_length=1)
    """Channels of each block (Ribeiro et al. 2020 go on to 320)."""
    stem_kernel: int = Field(default=15, ge=1)
    kernel: int = Field(default=7, ge=1)
    stride: int = Field(default=2, ge=1)
    """Of the stem and of each block."""
    norm: Norm = "batch"
    """Group norm keeps rows apart; batch norm is what the published networks have."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Between the convolutions of a block."""
    pool: Literal["mean", "mean_max"] = "mean"
    """Over time; ``mean_max`` puts both side by side and so doubles the width."""

    @field_validator("kernel", "stem_kernel")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError("a kernel has an odd number of samples, so that it has a middle")
        return value


class TimmImageSettings(Config):
    """Which model."""

    model: str = "resnet50"
    """Any name of ``timm.list_models()``; ResNet-50 in Turgut et al. 2025."""
    drop_path: float = Field(default=0.0, ge=0, lt=1)
    """timm's ``drop_path_rate``."""
    options: dict[str, Any] = {}
    """Further arguments of the model, for example ``patch_size`` of a ViT."""


class SmallCNNSettings(Config):
    """Sizes; ours."""

    widths: tuple[int, ...] = Field(default=(32, 64, 128), min_length=1)
    """Channels of each convolution; each halves the image."""
    norm: Norm = "group"
    """Group norm keeps rows apart, so that several processes give what one gives."""


class Monai3dSettings(Config):
    """Which network; sizes are ours."""

    network: Network = "resnet18"
    widen: float = Field(default=1.0, gt=0)
    """Factor on the channels (ResNets)."""
    stem_stride: int = Field(default=2, ge=1)
    """MONAI's own default is 1 (ResNets)."""
    stem_pool: bool = True
    """Whether the stem ends in max pooling; leave it out for thin volumes (ResNets)."""
    norm: Norm = "batch"
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Within dense blocks (DenseNet)."""


class _Blocks(Config):
    """Sizes of transformer blocks; ours."""

    width: int = Field(default=128, gt=0, multiple_of=2)
    depth: Depth = 2
    heads: int = Field(default=4, ge=1)
    mlp_ratio: float = Field(default=4.0, gt=0)
    drop_path: float = Field(default=0.0, ge=0, lt=1)


class CineSettings(_Blocks):
    """Sizes; ours."""

    frame: dict[str, Any] = {"name": "small_cnn"}
    """Encoder of one frame, ``small_cnn`` or ``timm``, with its settings."""
    depth: Depth = 1
    """Transformer blocks over time."""
    drop_path: float = Field(default=0.0, ge=0, lt=1)
    """In every block over time."""


class TextTransformerSettings(_Blocks):
    """Sizes; ours, for vocabularies learned from a cohort."""

    dropout: float = Field(default=0.0, ge=0, lt=1)
    """On the embedded tokens."""
    pool: Literal["mean", "cls"] = "mean"
    """Mean of the tokens that are not padding, or the first token."""


class ClipTextSettings(Config):
    """Sizes; of ViT-B/32 and ViT-B/16."""

    width: int = Field(default=512, ge=1)
    depth: Depth = 12
    heads: int = Field(default=8, ge=1)
    mlp_ratio: float = Field(default=4.0, gt=0)
    activation: Literal["gelu", "quick_gelu"] = "gelu"
    """``quick_gelu`` for OpenAI's weights, and others whose name in open_clip says so."""


class HFTextSettings(Config):
    """Which model, and what stands for a text."""

    path: Path | None = None
    """Folder with ``config.json`` and ``*.safetensors``, as ``save_pretrained`` writes it."""
    pretrained: bool = True
    """Whether to take the folder's weights; otherwise its sizes only, with first weights."""
    pool: Literal["mean", "cls"] = "mean"
    """Mean of the tokens that are not padding, or the first token."""
    frozen: bool = False
    """Whether the model keeps its weights, and its dropout is off; a head is trained."""


class HFImageSettings(Config):
    """Which model, and what stands for an image."""

    path: Path | None = None
    """Folder with ``config.json`` and ``*.safetensors``, as ``save_pretrained`` writes it."""
    pretrained: bool = True
    """Whether to take the folder's weights; otherwise its sizes only, with first weights."""
    pool: Literal["authors", "cls", "pooled", "mean"] = "authors"
    """Class token, what the model pools (``pooler_output``), or mean of the patches; ``authors``:
    the class token of ViT and DeiT, else what the model pools."""


class TabularMLPSettings(Config):
    """Sizes; ours."""

    cell_width: int = Field(default=8, gt=0)
    """Width of an embedded cell."""
    hidden: int = Field(default=128, gt=0)
    depth: Depth = 2
    """Hidden layers."""
    width: int = Field(default=128, gt=0)
    """E, width of the features."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """After each hidden layer."""
    norm: Literal["layer", "none"] = "layer"
    """Before each ReLU."""


class CodeTransformerSettings(_Blocks):
    """Sizes; ours."""

    waves: int = Field(default=16, ge=1)
    """Periods of the time encoding."""
    dropout: float = Field(default=0.0, ge=0, lt=1)


class LookupSettings(Config):
    """Sizes."""

    width: int = Field(default=50, ge=1)
    """Length of a vector: the rank, where a factorisation fills the table."""


class BrainNetCNNSettings(Config):
    """Sizes; those of the paper are edges 32, nodes 64, graph 30."""

    edges: tuple[int, ...] = (16,)
    """Channels of each edge-to-edge layer; none: edges go straight to nodes."""
    nodes: int = Field(default=64, gt=0)
    """Features of a region."""
    width: int = Field(default=128, gt=0)
    """E, width of the features."""
    dropout: float = Field(default=0.5, ge=0, lt=1)
    """Of the regions' features."""


class SNPPathwaySettings(Config):
    """The maps, and sizes; ours."""

    snp_gene: Path | None = None
    """Table of ``snp`` and ``gene``."""
    genes: Path | None = None
    """Or a table of ``gene``, ``chromosome``, ``start``, ``end``."""
    window_kb: float = Field(default=10.0, ge=0)
    pathways: Path | None = None
    """GMT, table of ``gene`` and ``pathway``, or a folder of node tables."""
    interactions: Path | None = None
    """Table of edges between genes, or a folder of edge tables."""
    channels: int = Field(default=4, ge=1)
    """Numbers a gene or pathway has."""
    rest: int = Field(default=0, ge=0)
    """Width of the bottleneck of variants without a gene; 0 = they are left out."""
    width: int = Field(default=128, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)


class NetworkSettings(Config):
    """Sizes; ours."""

    conv: Conv = "graphconv"
    width: int = Field(default=64, gt=0)
    """E, of regions and features."""
    depth: Depth = 2
    """Convolutions."""
    aggregate: Literal["mean", "sum"] = "mean"
    """``mean``: messages are divided by the number of neighbours; ``gcn`` has its own scale."""
    pool: Pool = "mean"
    """How regions become a graph. ``concat`` keeps them apart, 8 numbers each: then the order of
    the regions matters, and there are no tokens."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """After each convolution."""


class HeadSettings(Config):
    """Size of a projection head; the paper's."""

    hidden: int = Field(default=2048, gt=0)
    """Width of hidden layers (Turgut et al. 2025, code)."""
    out: int = Field(default=128, gt=0)
    """D, the shared dimension (Turgut et al. 2025, code)."""
    layers: Depth = 2
    """Linear layers, with ``activation`` between them; 2 in Turgut et al. 2025."""
    activation: Literal["relu", "gelu"] = "relu"
    """ReLU in Turgut et al. 2025; GELU between the two projections of BiomedCLIP's texts."""
    bias: bool = True
    """Whether linear layers have a bias. CLIP's projection is ``layers: 1, bias: false``."""
    norm: Literal["none", "layer", "batch"] = "none"
    """Before each activation. None, as in the authors' pinned release of lightly; its later
    default, batch norm, makes an embedding depend on the other rows of its batch."""


class LoRASettings(Config):
    """Low-rank adapters on layers of a frozen encoder (Hu et al. 2022)."""

    rank: int = Field(default=8, ge=1)
    """Numbers that pass between the two matrices of a layer (of each group of a convolution)."""
    alpha: float = Field(default=16.0, gt=0)
    """What they add is scaled by alpha / rank."""


class TowerSettings(Config):
    """One tower."""

    encoder: dict[str, Any]
    """``name`` in `ENCODERS`, and the settings of that encoder."""
    head: HeadSettings | None = None
    """Projection head; without one the features themselves are the shared space."""
    frozen: bool | Literal["encoder"] = False
    """Whether the tower, or its encoder only, keeps its weights (and batch statistics)."""
    lora: LoRASettings | None = None
    """Adapters that are trained in the place of the encoder's own weights: ``lora: {rank: 8}``."""
    trainable_layers: int | None = Field(default=None, ge=0)
    """How many of the encoder's last layers are trained; those before them keep their weights."""

    @model_validator(mode="after")
    def _one_way(self) -> TowerSettings:
        if self.lora is not None and self.trainable_layers is not None:
            raise ValueError("lora or trainable_layers: one says what of the encoder is trained")
        if self.frozen == "encoder" and (self.lora or self.trainable_layers is not None):
            raise ValueError("frozen: encoder leaves nothing to lora or trainable_layers")
        return self
