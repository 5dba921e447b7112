"""From the names in other people's weight files to ours."""

from __future__ import annotations

import re
from collections.abc import Callable

from torch import Tensor, nn

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
    """Map the image tower of an open_clip model to the encoder ``timm``; the text tower is left.

    Towers that open_clip took from timm (``visual.trunk.``), its own ViT and its ResNet.
    """
    trunk = _under("visual.trunk.", state)
    if trunk:
        return timm_names(trunk, module)
    renamed = {}
    for name, value in (_under("visual.", state) or state).items():
        new = name
        for pattern, replacement in CLIP_VIT:
            new = re.sub(pattern, replacement, new)
        renamed[new] = value
    if "class_embedding" in renamed:
        renamed["cls_token"] = renamed.pop("class_embedding").reshape(1, 1, -1)
    if "positional_embedding" in renamed:
        renamed["pos_embed"] = renamed.pop("positional_embedding")[None]
    return timm_names(renamed, module)


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


def _under(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)
    }
