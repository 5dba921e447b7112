"""From the names in other people's weight files to ours."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from medmcl.core.errors import ArtefactError
from medmcl.encoders.text.hf import HFText
from medmcl.encoders.text.transformer import ClipText

NameMap = Callable[[dict[str, Tensor], nn.Module], dict[str, Tensor]]

# torchvision's ResNet in the authors' nn.Sequential: children by number, pooling and fc left out.
NUMBERED = {
    "0": "conv1",
    "1": "bn1",
    "4": "layer1",
    "5": "layer2",
    "6": "layer3",
    "7": "layer4",
}

# open_clip's own ViT, to timm's names; patterns are tried in order.
CLIP_VIT = (
    (r"^conv1\.weight$", "patch_embed.proj.weight"),
    (r"^ln_pre\.", "norm_pre."),
    (r"^ln_post\.", "norm."),
    (r"^transformer\.resblocks\.(\d+)\.ln_1\.", r"blocks.\1.norm1."),
    (r"^transformer\.resblocks\.(\d+)\.ln_2\.", r"blocks.\1.norm2."),
    (r"^transformer\.resblocks\.(\d+)\.attn\.in_proj_", r"blocks.\1.attn.qkv."),
    (r"^transformer\.resblocks\.(\d+)\.attn\.out_proj\.", r"blocks.\1.attn.proj."),
    (r"^transformer\.resblocks\.(\d+)\.mlp\.c_fc\.", r"blocks.\1.mlp.fc1."),
    (r"^transformer\.resblocks\.(\d+)\.mlp\.c_proj\.", r"blocks.\1.mlp.fc2."),
)

# open_clip's text tower, to the encoder ``clip_text``.
CLIP_TEXT = (
    (r"^token_embedding\.", "embed."),
    (r"^positional_embedding$", "positions"),
    (r"^ln_final\.", "norm."),
    (r"^transformer\.resblocks\.(\d+)\.ln_([12])\.", r"blocks.\1.norm\2."),
    (r"^transformer\.resblocks\.(\d+)\.attn\.", r"blocks.\1.self_attn."),
    (r"^transformer\.resblocks\.(\d+)\.mlp\.c_fc\.", r"blocks.\1.linear1."),
    (r"^transformer\.resblocks\.(\d+)\.mlp\.c_proj\.", r"blocks.\1.linear2."),
)


def same(state: dict[str, Tensor], module: nn.Module) -> dict[str, Tensor]:  # noqa: ARG001  (a NameMap)
    """Leave names as they are: files that medmcl wrote, or that were renamed before."""
    return state


def run_names(state: dict[str, Tensor], module: nn.Module) -> dict[str, Tensor]:  # noqa: ARG001  (a NameMap)
    """Take the model out of a checkpoint of a medmcl run; what its objectives learned is left."""
    return _under("model.", state) or state


def timm_names(state: dict[str, Tensor], module: nn.Module) -> dict[str, Tensor]:  # noqa: ARG001  (a NameMap)
    """Map timm's (and torchvision's ResNet) names to those of the encoder ``timm``."""
    return {f"model.{name}": value for name, value in state.items()}


def open_clip(state: dict[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """Map an open_clip model to the encoder of one of its towers.

    Image towers, to ``timm``: those that open_clip took from timm (``visual.trunk.``), and its own
    ViT; not its ResNet. Text towers: CLIP's to ``clip_text``, those it took from transformers
    (``text.transformer.``: BiomedCLIP's BERT) to ``hf_text``.
    The projections into the shared space are not of an encoder: `open_clip_projection`.
    """
    if isinstance(module, HFText):
        return _language_model(state)
    if isinstance(module, ClipText):
        return _clip_text(state)
    trunk = _under("visual.trunk.", state)
    if trunk:
        return timm_names(trunk, module)
    renamed = _renamed(_under("visual.", state) or state, CLIP_VIT)
    if "class_embedding" in renamed:
        renamed["cls_token"] = renamed.pop("class_embedding").reshape(1, 1, -1)
    if "positional_embedding" in renamed:
        renamed["pos_embed"] = renamed.pop("positional_embedding")[None]
    return timm_names(renamed, module)


def _language_model(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The text tower of transformers; older files also count its positions, as no parameter."""
    text = _under("text.", state)
    text.pop("transformer.embeddings.position_ids", None)
    return _renamed(text, ((r"^transformer\.", "model."),))


def _clip_text(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The text tower; CLIP's token n becomes number n + 1, since 0 is padding."""
    if "logit_bias" in state:
        raise ArtefactError(
            "the text tower of SigLIP is not that of CLIP: it looks ahead, and reads other tokens",
            fix="take its image tower only, or weights of a CLIP model",
        )
    if any(name.startswith("text.transformer.embeddings.") for name in state):
        raise ArtefactError(
            "the text tower is a language model of transformers, not that of CLIP",
            fix="encoder: {name: hf_text, path: FOLDER, pretrained: false, pool: cls}, FOLDER with "
            "the language model's config.json and tokeniser",
        )
    inside = {name: value for name, value in state.items() if not name.startswith("visual.")}
    renamed = _renamed(_under("text.", inside) or inside, CLIP_TEXT)
    table = renamed.get("embed.weight")
    if table is not None and table.ndim == 2:
        renamed["embed.weight"] = torch.cat([torch.zeros_like(table[:1]), table])
    return renamed


def open_clip_projection(state: dict[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """Take a tower's projection out of ``state``, by the names of a head: ``layers.0.weight``, ...

    Args:
        state: Tensors of an open_clip model; those of the projection are removed.
        module: The encoder, which says whose projection is wanted.

    Returns:
        Nothing where the file has none (image towers of SigLIP).
    """
    of_text = isinstance(module, ClipText | HFText)
    for name in ("text_projection", "text.text_projection") if of_text else ("visual.proj",):
        if name in state:
            return {"layers.0.weight": state.pop(name).T.contiguous()}
    linear = ("text.text_projection.", "text.proj.") if of_text else ("visual.head.proj.",)
    found = {}
    for prefix in linear:
        for name in [name for name in state if name.startswith(prefix)]:
            rest = name.removeprefix(prefix)  # weight; of two layers with GELU between 0.weight
            found[f"layers.{rest if '.' in rest else '0.' + rest}"] = state.pop(name)
    return found


def authors_image(state: dict[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """Map the released CMR encoders of ECG-CMR (Turgut et al. 2025) to the encoder ``timm``.

    The files hold torchvision's ResNet under ``encoder_imaging.``, its layers numbered.
    """
    renamed = {}
    for name, value in (_under("encoder_imaging.", state) or state).items():
        first, _, rest = name.partition(".")
        renamed[f"{NUMBERED.get(first, first)}.{rest}"] = value
    return timm_names(renamed, module)


def authors_ecg(state: dict[str, Tensor], module: nn.Module) -> dict[str, Tensor]:  # noqa: ARG001  (a NameMap)
    """Map the released ECG encoders of ECG-CMR (Turgut et al. 2025) to the encoder ``ecg_vit``.

    timm's ViT names. The class token and its position become one (their sum is all that is used);
    the final norm is ``norm`` after masked modelling, ``fc_norm`` later, and absent in the files
    of the contrastive encoders. Decoder and projectors stay unexpected, and so in the report.
    """
    state = _under("encoder_ecg.", state) or dict(state)
    if "fc_norm.weight" in state:
        for part in ("weight", "bias"):
            state.pop(f"norm.{part}", None)
            state[f"norm.{part}"] = state.pop(f"fc_norm.{part}")
    kernel = state.pop("patch_embed.proj.weight", None)
    if kernel is not None:
        state["embed.weight"] = kernel.flatten(1)
    if "patch_embed.proj.bias" in state:
        state["embed.bias"] = state.pop("patch_embed.proj.bias")
    positions = state.pop("pos_embed", None)
    if positions is not None:
        state["positions"] = positions[0, 1:]
        if "cls_token" in state:
            state["cls_token"] = state["cls_token"] + positions[:, :1]
    return state


def _renamed(state: dict[str, Tensor], patterns: tuple[tuple[str, str], ...]) -> dict[str, Tensor]:
    renamed = {}
    for name, value in state.items():
        new = name
        for pattern, replacement in patterns:
            new = re.sub(pattern, replacement, new)
        renamed[new] = value
    return renamed


def _under(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)
    }


def upcycle(tower: nn.Module, dense: Mapping[str, Tensor]) -> None:
    """Give a tower with experts the weights of a dense one of its sizes, in place.

    Each expert starts as the MLP of its block; routers keep their first weights. With the setting
    ``normalise`` the tower begins as the dense one, as far as no expert is full. Without it, what
    an expert gives is weighed by its gate, at first about 1 / E.

    Source:
        Komatsuzaki et al. 2023, arXiv 2212.05055; for image and text: CLIP-UP (2025). Differs:
        routers do not start anew at zero.

    Args:
        tower: A `SharedTower` with experts, or its trunk.
        dense: Names and values of the same without experts (its ``state_dict``).

    Raises:
        ArtefactError: A name is missing, left over, or has another shape.
    """
    own = tower.state_dict()
    taken: dict[str, Tensor] = {}
    used: set[str] = set()
    for name, value in own.items():
        source = _source(name)
        if source is None:
            continue
        found = dense.get(source)
        shape = value.shape[1:] if ".moe.mlps." in name else value.shape
        if found is None or found.shape != shape:
            raise _other(source, None if found is None else tuple(found.shape), tuple(shape))
        used.add(source)
        taken[name] = found.to(value.device).expand(value.shape)
    left = sorted(set(dense) - used)
    if left:
        raise _other(left[0], tuple(dense[left[0]].shape), None)
    tower.load_state_dict({**own, **taken})


def is_upcycling(tower: nn.Module, given: Mapping[str, Tensor]) -> bool:
    """Whether ``tower`` has experts and the weights are of a tower without."""
    return any(".moe." in name for name in tower.state_dict()) and not any(
        ".moe." in name for name in given
    )


def upcycled(state: dict[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """Map the file of a run with a dense shared tower to one with experts (a name map)."""
    given = run_names(state, module)
    mapped = {}
    for name, value in module.state_dict().items():
        found = given.pop(_source(name) or "", None)
        if found is not None:
            is_expert = ".moe.mlps." in name and found.shape == value.shape[1:]
            mapped[name] = found.expand(value.shape) if is_expert else found
    return {**given, **mapped}


def _source(name: str) -> str | None:
    """Name in the dense tower of a parameter; None for those of routers and their biases."""
    if ".moe." in name and ".moe.mlps." not in name:
        return None
    for part, layer in (("1", "fc1"), ("2", "fc2")):
        for kind in ("weight", "bias"):
            name = name.replace(f".moe.mlps.{kind}{part}", f".mlp.{layer}.{kind}")
    return name


def _other(name: str, got: object, expected: object) -> ArtefactError:
    return ArtefactError(
        "the dense tower does not fit",
        where=name,
        got="nothing of this name" if got is None else got,
        expected="no such name" if expected is None else expected,
        fix="give the weights of a shared tower with experts: null and the same sizes, modalities "
        "and pooling",
    )
