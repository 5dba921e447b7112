"""The map of encoders, and how one is built by its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from medmcl.core.batch import InputShape
from medmcl.core.config import Config, check, lookup
from medmcl.core.errors import ConfigError
from medmcl.encoders.brainnet_cnn import BrainNetCNN
from medmcl.encoders.cine import Cine
from medmcl.encoders.clip_text import ClipText
from medmcl.encoders.code_transformer import CodeTransformer
from medmcl.encoders.graph_dense import GraphDense
from medmcl.encoders.graph_pyg import GraphPyG
from medmcl.encoders.hf_text import HFText
from medmcl.encoders.lookup import Lookup
from medmcl.encoders.monai3d import Monai3d
from medmcl.encoders.resnet1d import ResNet1d
from medmcl.encoders.small_cnn import SmallCNN
from medmcl.encoders.snp_pathway import SNPPathway
from medmcl.encoders.tabular_mlp import TabularMLP
from medmcl.encoders.text_transformer import TextTransformer
from medmcl.encoders.timm_image import TimmImage
from medmcl.encoders.vit import ECGViT


def build_encoder(
    name: str, shape: InputShape, settings: Mapping[str, Any], where: str | None = None
) -> nn.Module:
    """Build an encoder by its name in `ENCODERS`.

    Args:
        name: Kind of encoder.
        shape: What it reads.
        settings: Values of its ``Settings``.
        where: Its dotted key in the recipe, ``towers.ecg.encoder``, for the error.

    Raises:
        ConfigError: If the name, a key, a value or the shape cannot be used.
    """
    kind, checked = _checked(name, settings, where)
    built: nn.Module = kind(shape, checked)
    return built


def check_encoder(given: Mapping[str, Any], where: str | None = None) -> None:
    """Check ``name`` and settings of an encoder, as far as no shape is needed.

    Raises:
        ConfigError: As `build_encoder`, or there is no ``name``.
    """
    _checked(*split_name(given, where), where)


def split_name(given: Mapping[str, Any], where: str | None) -> tuple[str, dict[str, Any]]:
    """Give the ``name`` of an encoder and its settings; `ConfigError` if it has no name."""
    own = dict(given)
    if "name" not in own:
        raise ConfigError("an encoder needs a 'name'", where=where)
    return str(own.pop("name")), own


def _checked(name: str, settings: Mapping[str, Any], where: str | None) -> tuple[Any, Config]:
    kind = lookup("encoder", name, ENCODERS, where=where and f"{where}.name")
    place = f"encoder '{name}'" if where is None else where
    return kind, check(kind.Settings, settings, where=place, error=ConfigError, under=where or "")


ENCODERS: dict[str, Any] = {
    "ecg_vit": ECGViT,
    "resnet1d": ResNet1d,
    "timm": TimmImage,
    "small_cnn": SmallCNN,
    "monai3d": Monai3d,
    "cine": Cine,
    "text_transformer": TextTransformer,
    "clip_text": ClipText,
    "hf_text": HFText,
    "tabular_mlp": TabularMLP,
    "code_transformer": CodeTransformer,
    "lookup": Lookup,
    "brainnet_cnn": BrainNetCNN,
    "graph_pyg": GraphPyG,
    "graph_dense": GraphDense,
    "snp_pathway": SNPPathway,
}
