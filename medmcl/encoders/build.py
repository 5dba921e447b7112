"""The maps of encoders and input projections, and how one is checked and built by its name.

Checking reads their settings, which stand apart, and imports no encoder.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from medmcl.core.config import Config, check, lookup
from medmcl.core.contracts import traits
from medmcl.core.errors import ConfigError, ContractError, MedmclError
from medmcl.core.lazy import Parts, has, refuse_slips
from medmcl.encoders.published.card_files import card_files
from medmcl.modalities import ADAPTERS

if TYPE_CHECKING:
    from torch import nn

    from medmcl.core.batch import InputShape

_SETTINGS = "medmcl.encoders.settings"
_PUBLISHED = "medmcl.encoders.published"
ENCODERS = Parts(
    {
        "ecg_vit": "medmcl.encoders.signal.vit:ECGViT",
        "resnet1d": "medmcl.encoders.signal.resnet1d:ResNet1d",
        "timm": "medmcl.encoders.image.timm_image:TimmImage",
        "hf_image": "medmcl.encoders.image.hf:HFImage",
        "small_cnn": "medmcl.encoders.image.small_cnn:SmallCNN",
        "monai3d": "medmcl.encoders.image.monai3d:Monai3d",
        "cine": "medmcl.encoders.image.cine:Cine",
        "text_transformer": "medmcl.encoders.text.transformer:TextTransformer",
        "clip_text": "medmcl.encoders.text.transformer:ClipText",
        "hf_text": "medmcl.encoders.text.hf:HFText",
        "tabular_mlp": "medmcl.encoders.tabular_mlp:TabularMLP",
        "code_transformer": "medmcl.encoders.codes:CodeTransformer",
        "lookup": "medmcl.encoders.codes:Lookup",
        "brainnet_cnn": "medmcl.encoders.graph.brainnet_cnn:BrainNetCNN",
        "graph_pyg": ("medmcl.encoders.graph.network:GraphPyG", f"{_SETTINGS}:NetworkSettings"),
        "graph_dense": ("medmcl.encoders.graph.network:GraphDense", f"{_SETTINGS}:NetworkSettings"),
        "snp_pathway": "medmcl.encoders.genetics.snp_pathway:SNPPathway",
        **{
            name: (f"{_PUBLISHED}.encoder:{name}", f"{_PUBLISHED}.settings:{name}")
            for name in card_files()
        },
    },
    group="medmcl.encoders",
    settings=_SETTINGS,
    keeps=has("medmcl.encoders", "forward"),
)

_HAS = ("width", "num_tokens", "patch", "grid", "early", "parameters")
INPUT_PROJECTIONS = Parts(
    {
        "patches": "medmcl.encoders.shared.input_projections:Patches",
        "table": "medmcl.encoders.shared.input_projections:Table",
        "signal": "medmcl.encoders.shared.input_projections:Signal",
        "encoder": "medmcl.encoders.shared.input_projections:AnyEncoder",
    },
    settings="medmcl.encoders.shared.settings",
)
"""How a modality enters a shared tower."""


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
    checked = _checked_encoder(name, settings, where)
    try:
        built: nn.Module = ENCODERS[name](shape, checked)
    except MedmclError:
        raise
    except (AssertionError, TypeError, ValueError, RuntimeError) as error:  # of timm, torch, ...
        raise ConfigError(
            f"the encoder '{name}' cannot be built with these settings: {error}",
            where=where or f"encoder '{name}'",
            got=", ".join(f"{key}: {value}" for key, value in settings.items()) or "defaults",
            fix="see what it can have: `medmcl parts " + name + "`",
        ) from error
    except Exception as error:
        from medmcl.modalities.outside import raised_at

        if name not in ENCODERS.outside:
            raise
        raise ContractError(
            f"the encoder '{name}' (package {ENCODERS.package(name)}) cannot be built",
            got=raised_at(error),
            fix="correct the package (docs/extend.md has the contract)",
        ) from error
    if name in ENCODERS.outside:
        slips = [f"{one} is missing" for one in _HAS if not hasattr(built, one)]
        refuse_slips(ENCODERS.group, name, ENCODERS.package(name), slips)
    return built


def check_encoder(given: Mapping[str, Any], where: str | None = None) -> None:
    """Check ``name`` and settings of an encoder, as far as no shape is needed.

    Raises:
        ConfigError: As `build_encoder`, or there is no ``name``.
    """
    _checked_encoder(*split_name(given, where), where)


def split_name(given: Mapping[str, Any], where: str | None) -> tuple[str, dict[str, Any]]:
    """Give the ``name`` of an encoder and its settings; `ConfigError` if it has no name."""
    own = dict(given)
    if "name" not in own:
        raise ConfigError("an encoder needs a 'name'", where=where)
    return str(own.pop("name")), own


def _checked_encoder(name: str, settings: Mapping[str, Any], where: str | None) -> Config:
    model = lookup("encoder", name, ENCODERS.settings, where=where and f"{where}.name")
    place = f"encoder '{name}'" if where is None else where
    return check(model, settings, where=place, error=ConfigError, under=where or "")


def build_input_projection(
    shape: InputShape, settings: Mapping[str, Any], width: int, patch: int, where: str
) -> nn.Module:
    """Build an input projection by its ``name``, or the one that suits the kind of input.

    Args:
        shape: What it reads.
        settings: ``name``, if wanted, and values of its ``Settings``.
        width: D of the tower.
        patch: Edge of a patch of the tower's size, for images.
        where: Place in the recipe, for the error.

    Raises:
        ConfigError: If the name, a key, a value or the shape cannot be used.
    """
    name, given = _checked_input_projection(shape.kind, settings, where)
    built: nn.Module = INPUT_PROJECTIONS[name](shape, given, width, patch)
    return built


def check_input_projection(input_kind: str, settings: Mapping[str, Any], where: str) -> None:
    """Check ``name`` and settings of an input projection, as far as no shape is needed.

    Args:
        input_kind: Kind of what it reads.
        settings: As for `build_input_projection`.
        where: Its dotted key in the recipe, ``shared.input_projections.ecg``, for the error.

    Raises:
        ConfigError: If the name, a key or a value cannot be used.
    """
    from medmcl.encoders.shared.settings import AnyEncoderSettings

    _, given = _checked_input_projection(input_kind, settings, where)
    if isinstance(given, AnyEncoderSettings):
        check_encoder(given.encoder, f"{where}.encoder")


def _checked_input_projection(
    input_kind: str, settings: Mapping[str, Any], where: str
) -> tuple[str, Config]:
    own = dict(settings)
    of_kind = traits(ADAPTERS[input_kind]).input_projection if input_kind in ADAPTERS else ""
    usual = "encoder" if "encoder" in own else of_kind or None
    name = own.pop("name", usual)
    if name is None:
        raise ConfigError(
            f"a {input_kind} has no input projection of its own to a shared tower",
            where=where,
            fix="name an encoder whose tokens enter: encoder: {name: ...}",
        )
    model = lookup("input projection", str(name), INPUT_PROJECTIONS.settings, where=f"{where}.name")
    return str(name), check(model, own, where=where, error=ConfigError, under=where)
