"""A local transformers model for images; nothing is downloaded, no pickle, no code of strangers."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medmcl.core.batch import InputShape
from medmcl.core.errors import ArtefactError, ConfigError, damage
from medmcl.core.limits import parse_json, whole_bytes
from medmcl.encoders.encoded import Encoded, EncoderModule, require_axes, try_out, unmaskable
from medmcl.encoders.settings import HFImageSettings
from medmcl.encoders.transformers_folder import (
    Reader,
    depths_by_name,
    read_model,
    require_folder,
)

AUTHORS = {"vit": "cls", "deit": "cls", "ijepa": "mean"}
"""What stands for an image where it is not ``pooler_output``: their poolers were made up later."""
LATE_NORM = {
    "clip_vision_model": "post_layernorm",
    "convnext": "layernorm",
    "convnextv2": "layernorm",
}
"""Norms that the models put on what they pool only; here tokens pass through them as well."""
POOLERS = ("pooler.", "head.")
MOST_OTHERS = 16
"""Tokens before the patches, at most: class, distillation, registers."""
PROCESSOR = ("preprocessor_config.json", "processor_config.json")


class HFImage(EncoderModule):
    """The image encoder of a transformers folder: ViT, DINOv2, SigLIP, CLIP and their like.

    Of a folder of image and text (SigLIP, CLIP) it is the image tower, without the projection.
    Tokens are the patches, row by row. Positions of another image size are interpolated as
    transformers does; the weights stay those of the model's own size.
    """

    Settings = HFImageSettings

    def __init__(self, shape: InputShape, settings: HFImageSettings) -> None:
        super().__init__()
        axes = require_axes(shape, ("channels", "rows", "columns"), "hf_image")
        folder = require_folder(settings.path, READER)
        reader = replace(
            READER, unread=lambda c: () if _pool(c, settings.pool) == "pooled" else POOLERS
        )
        self.net: Any = read_model(folder, reader, pretrained=settings.pretrained)
        self.pretrained = settings.pretrained
        config = self.net.config
        self.pool = _pool(config, settings.pool)
        self.late_norm = LATE_NORM.get(config.model_type)
        _drop_unread(self.net, keep_pooler=self.pool == "pooled")
        self.pixels = _pixels(folder, axes[0])
        _check_channels(config, axes[0], folder)
        self.options = _options(self.net, axes[1:])
        self.eval()
        with torch.no_grad():
            states, pooled = self._try(axes, folder)
            self.others, self.grid = _layout(config, states, axes[1:], folder)
            if self.pool == "pooled" and pooled is None and settings.pool == "authors":
                self.pool = "cls" if self.others else "mean"
            features = self._features(_rows(states), pooled)
        self.train()
        self.width: int = features.shape[1]
        if self.width != _rows(states).shape[2]:
            raise ConfigError(
                "the model widens its features after pooling, so its tokens have no place in the "
                "shared space",
                where=folder,
                got=f"{_rows(states).shape[2]} channels, {self.width} features",
                fix="set pool: cls or mean",
            )

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Encoded:
        """Encode images (B, channels, rows, columns)."""
        unmaskable(mask, "hf_image")
        rows = x if len(x) else x.new_zeros((1, *x.shape[1:]))  # transformers takes no empty batch
        states, pooled = self._read(rows)
        tokens = _rows(states)
        features = self._features(tokens, pooled)
        return Encoded(features=features[: len(x)], tokens=tokens[: len(x), self.others :])

    def layer_depths(self) -> dict[str, int]:
        """Parameter to its layer: embeddings are 0, block i is i + 1, the rest comes last."""
        return depths_by_name(name for name, _ in self.named_parameters())

    def trained_pixels(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """Mean and deviation of values in 0 to 1 that the folder's own preparation takes out."""
        return self.pixels

    def _read(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Give the last states, normed, as the model lays them out, and what it pools (B, E)."""
        found = self.net(pixel_values=x, return_dict=True, **self.options)
        states, pooled = found.last_hidden_state, getattr(found, "pooler_output", None)
        if self.late_norm is not None:
            norm = getattr(self.net, self.late_norm)
            last = -1 if states.ndim == 3 else 1
            states = norm(states.movedim(last, -1)).movedim(-1, last)
        return states, None if pooled is None else pooled.flatten(1)

    def _features(self, tokens: Tensor, pooled: Tensor | None) -> Tensor:
        if self.pool == "mean":
            return tokens[:, self.others :].mean(1)
        if self.pool == "cls" and self.others:
            return tokens[:, 0]
        if self.pool == "pooled" and pooled is not None:
            return pooled
        what = "class token" if self.pool == "cls" else "pooling of its own"
        raise ConfigError(
            f"the model has no {what}",
            where="encoder 'hf_image'",
            got=f"pool: {self.pool}, {self.net.config.model_type}",
            fix="leave pool out, or set pool: mean",
        )

    def _try(self, axes: tuple[int, ...], folder: Path) -> tuple[Tensor, Tensor | None]:
        found: list[tuple[Tensor, Tensor | None]] = []

        def read(x: Tensor) -> Tensor:
            found.append(self._read(x))
            return found[0][0]

        try_out(read, axes, f"hf_image: {folder}")
        return found[0]


def _image_model(config: Any) -> Any:
    """Give the part of a folder's configuration that reads images."""
    config = getattr(config, "vision_config", config)
    if not hasattr(config, "num_channels"):
        raise ValueError(f"{config.model_type} reads no images")
    if hasattr(config, "mask_ratio"):
        raise ValueError(f"{config.model_type} hides patches at random; save its ViT alone")
    return config


READER = Reader(
    encoder="hf_image",
    kind="image",
    example="encoder: {name: hf_image, path: FOLDER}",
    types="ViT, DINOv2, SigLIP or CLIP",
    choose=_image_model,
    unread=lambda config: POOLERS,  # noqa: ARG005  (of any)
)


def _pool(config: Any, asked: str) -> str:
    return AUTHORS.get(config.model_type, "pooled") if asked == "authors" else asked


def _drop_unread(model: Any, *, keep_pooler: bool) -> None:
    """Take out what is never read, so that every parameter gets a gradient."""
    for module in model.modules():
        if isinstance(getattr(module, "mask_token", None), nn.Parameter):
            module.mask_token = None
    if not keep_pooler:
        if getattr(model, "pooler", None) is not None:
            model.pooler = None
        if getattr(model, "use_head", False):  # SigLIP's attention over the patches
            model.use_head, model.head = False, None


def _options(model: Any, size: tuple[int, ...]) -> dict[str, bool]:
    """Ask for interpolated positions where the image has another size than the model."""
    own = getattr(model.config, "image_size", None)
    own = (own, own) if isinstance(own, int) else tuple(own or ())
    knows = "interpolate_pos_encoding" in inspect.signature(model.forward).parameters
    return {"interpolate_pos_encoding": True} if knows and own != size else {}


def _rows(states: Tensor) -> Tensor:
    """Tokens (B, T, E) of what may be a feature map (B, E, rows, columns)."""
    return states if states.ndim == 3 else states.flatten(2).transpose(1, 2)


def _layout(
    config: Any, states: Tensor, size: tuple[int, ...], folder: Path
) -> tuple[int, tuple[int, ...]]:
    """How many tokens stand before the patches, and how the patches lie."""
    if states.ndim == 4:
        return 0, tuple(states.shape[2:])
    patch = getattr(config, "patch_size", None)
    patches = (patch, patch) if isinstance(patch, int) else tuple(patch or (1, 1))
    count = states.shape[1]
    for halved in range(8):  # Swin and its like halve their maps
        step = [side * 2**halved for side in patches]
        grid = (size[0] // step[0], size[1] // step[1])
        others = count - grid[0] * grid[1]
        if 0 <= others <= MOST_OTHERS and min(grid) > 0:
            if size[0] % step[0] or size[1] % step[1]:
                raise ConfigError(
                    "the images are not a whole number of patches large",
                    where=folder,
                    got=f"{size[0]} x {size[1]} pixels, patches of {step[0]} x {step[1]}",
                    fix=f"set inputs.<image>.size: [{size[0] // step[0] * step[0]}, "
                    f"{size[1] // step[1] * step[1]}]",
                )
            return others, grid
    raise ConfigError(
        "it cannot be told which tokens of the model are patches",
        where=folder,
        got=f"{count} tokens of {size[0]} x {size[1]} pixels, patches of {patches}",
        fix="prepare images of the model's own size, or use the encoder timm",
    )


def _check_channels(config: Any, channels: int, folder: Path) -> None:
    if channels != config.num_channels:
        raise ConfigError(
            "the model reads images of another number of channels",
            where=folder,
            got=channels,
            expected=config.num_channels,
            fix="set inputs.<image>.channels: colour (a grey image is repeated); of cmr, as many "
            "frames or slices",
        )


def _pixels(folder: Path, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Mean and deviation, of values in 0 to 1, that the folder's preparation takes out."""
    path = next((folder / name for name in PROCESSOR if (folder / name).is_file()), None)
    if path is None:
        return None
    what = "says nothing that can be read of how pixels are normalised"
    with damage(path, what, error=ArtefactError, fix="copy the folder again from its source"):
        said = parse_json(whole_bytes(path, "table", ArtefactError))
        said = said.get("image_processor", said)
        normalised = said.get("do_normalize", "image_mean" in said)
        # Where pixels are not divided by 255, mean and deviation are those of 0 to 255.
        scale = 255 * (said.get("rescale_factor", 1 / 255) if said.get("do_rescale", True) else 1)
        mean, std = (
            tuple(float(v) / scale for v in (x if isinstance(x, list) else [x] * channels))
            for x in ((said["image_mean"], said["image_std"]) if normalised else (0.0, 1.0))
        )
    return mean, std
