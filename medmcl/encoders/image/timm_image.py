"""Any image model of timm by its name; frames are channels."""

from __future__ import annotations

import difflib
import math
from typing import Any

import torch
from torch import Tensor

from medmcl.core.batch import InputShape
from medmcl.core.errors import ConfigError
from medmcl.encoders.encoded import Encoded, EncoderModule, require_axes, try_out, unmaskable
from medmcl.encoders.settings import TimmImageSettings


class TimmImage(EncoderModule):
    """A timm model without its classifier.

    Tokens are the places of its last feature map (or its patch tokens); features are what the
    model pools from them. Nothing is downloaded: first weights come from the seed, others from a
    local file (`medmcl.encoders.weights.load_weights`, name map ``timm``).
    """

    Settings = TimmImageSettings

    def __init__(self, shape: InputShape, settings: TimmImageSettings) -> None:
        super().__init__()
        axes = require_axes(shape, ("frames", "rows", "columns"), "timm")
        self.model: Any = _create(settings, axes)
        self.eval()
        with torch.no_grad():
            probe = try_out(self.model.forward_features, axes, f"timm: {settings.model}")
            self.grid: tuple[int, ...] | None = self._grid(probe)
            features = self.model.forward_head(probe, pre_logits=True)
        self.train()
        self.width = features.shape[1]
        if self.width != self._tokens(probe).shape[2]:
            raise ConfigError(
                f"the model '{settings.model}' widens its features after pooling, so its tokens "
                "have no place in the shared space",
                got=f"{self._tokens(probe).shape[2]} channels, {self.width} features",
                fix="choose a ResNet, ConvNeXt, Swin, ViT or another model without such a layer",
            )

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Encoded:
        """Encode images (B, frames, rows, columns)."""
        unmaskable(mask, "timm")
        maps = self.model.forward_features(x)
        return Encoded(
            features=self.model.forward_head(maps, pre_logits=True), tokens=self._tokens(maps)
        )

    def layer_depths(self) -> dict[str, int]:
        """Parameter to its layer as timm counts them; 0 is the stem."""
        from timm.models import group_parameters

        layers = group_parameters(self.model, self.model.group_matcher(coarse=False), reverse=True)
        return {f"model.{name}": int(layer) for name, layer in layers.items()}

    def trained_pixels(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """Mean and deviation that timm's weights expect; None if it does not say."""
        usual = self.model.pretrained_cfg
        if not {"mean", "std"} <= set(usual):
            return None
        return tuple(usual["mean"]), tuple(usual["std"])

    def resized(self, name: str, value: Tensor) -> Tensor:
        """Interpolate positions (1, prefix + T, E) of a square grid as timm does."""
        if name != "model.pos_embed" or self.grid is None or value.ndim != 3:
            return value
        prefix = self.model.num_prefix_tokens
        if math.isqrt(value.shape[1] - prefix) ** 2 != value.shape[1] - prefix:
            return value
        from timm.layers import resample_abs_pos_embed

        return resample_abs_pos_embed(value, new_size=list(self.grid), num_prefix_tokens=prefix)

    def _tokens(self, maps: Tensor) -> Tensor:
        """Places of a feature map, (B, T, E); patch tokens without the class token."""
        if maps.ndim == 3:
            return maps[:, getattr(self.model, "num_prefix_tokens", 0) :]
        if maps.shape[1] == self.model.num_features:
            return maps.flatten(2).transpose(1, 2)
        return maps.flatten(1, 2)

    def _grid(self, maps: Tensor) -> tuple[int, ...] | None:
        if maps.ndim == 4:
            first = 2 if maps.shape[1] == self.model.num_features else 1
            return tuple(maps.shape[first : first + 2])
        grid = getattr(getattr(self.model, "patch_embed", None), "grid_size", None)
        return None if grid is None else tuple(grid)


def _create(settings: TimmImageSettings, axes: tuple[int, ...]) -> Any:
    import timm

    name = settings.model
    if not timm.is_model(name.split(".")[0]):
        close = difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0.5)
        raise ConfigError(
            f"timm has no model '{name}'",
            where="encoder 'timm'",
            expected=f"for example {', '.join(close or ['resnet18', 'resnet50'])}",
            fix='see `python -c "import timm; print(timm.list_models())"`',
        )
    options = dict(settings.options)
    if settings.drop_path:
        options["drop_path_rate"] = settings.drop_path
    options |= {"pretrained": False, "in_chans": axes[0], "num_classes": 0}
    try:
        # Transformers are built for one image size; convolutional models do not take it.
        return timm.create_model(name, img_size=axes[1:], **options)
    except TypeError:
        return timm.create_model(name, **options)
