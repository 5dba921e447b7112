"""A local transformers model for texts; nothing is downloaded, no pickle, no code of strangers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medmcl.core.batch import InputShape
from medmcl.core.errors import ConfigError
from medmcl.core.layers import masked_mean
from medmcl.encoders.encoded import Encoded, EncoderModule, require_axes, unmaskable
from medmcl.encoders.settings import HFTextSettings
from medmcl.encoders.text.transformer import PADDING
from medmcl.encoders.transformers_folder import (
    Reader,
    depths_by_name,
    read_model,
    require_folder,
)
from medmcl.modalities.text.tokens import LocalModel

BLIND_TO_PADDING = frozenset(
    {"bert", "deberta-v2", "distilbert", "electra", "ernie", "longformer", "modernbert", "mpnet",
     "roberta", "roformer", "xlm-roberta"}
)  # fmt: skip
"""Types of models whose tokens do not depend on how much padding stands behind them; others mix
it in (FNet, ConvBERT), or attend otherwise in short rows (BigBird)."""


class HFText(EncoderModule):
    """The encoder of a transformers folder: BERT and its like, without the pooler.

    The texts must be numbered by the tokeniser of the same folder (``inputs.<text>.model``).
    """

    Settings = HFTextSettings

    def __init__(self, shape: InputShape, settings: HFTextSettings) -> None:
        super().__init__()
        (length,) = require_axes(shape, ("tokens",), "hf_text")
        folder = require_folder(settings.path, READER)
        self.model: Any = read_model(folder, READER, pretrained=settings.pretrained)
        self.pretrained = settings.pretrained
        if getattr(self.model, "pooler", None) is not None:
            self.model.pooler = None  # never read, so it would never get a gradient
        _check_fit(self.model.config, shape, folder)
        self.takes_cut_rows = self.model.config.model_type in BLIND_TO_PADDING
        self.pool, self.frozen = settings.pool, settings.frozen
        self.model.requires_grad_(not self.frozen)
        self.width: int = self.model.config.hidden_size
        self.grid: tuple[int, ...] = (length,)
        self.train(self.training)

    def train(self, mode: bool = True) -> HFText:
        """Set training mode; a frozen model stays in evaluation mode."""
        super().train(mode)
        self.model.train(mode and not self.frozen)
        return self

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Encoded:
        """Encode token numbers (B, T) int64; tokens of padding are zero."""
        unmaskable(mask, "hf_text")
        padding = x == PADDING
        rows = x if len(x) else x.new_zeros((1, x.shape[1]))  # transformers takes no empty batch
        seen = rows != PADDING
        seen[:, 0] = True  # where nothing may be seen, attention is NaN
        found = self.model(input_ids=rows, attention_mask=seen.long())
        tokens = found.last_hidden_state[: len(x)]
        pooled = tokens[:, 0] if self.pool == "cls" else masked_mean(tokens, padding)
        shown = torch.where(padding[..., None], 0.0, tokens)
        return Encoded(features=pooled, tokens=shown, padding=padding)

    def layer_depths(self) -> dict[str, int]:
        """Parameter to its layer: embeddings are 0, block i is i + 1, the rest comes last."""
        return depths_by_name(name for name, _ in self.named_parameters())


def _text_model(config: Any) -> Any:
    if config.is_encoder_decoder or not hasattr(config, "hidden_size"):
        raise ValueError(f"{config.model_type} is no encoder of text")
    return config


READER = Reader(
    encoder="hf_text",
    kind="text",
    example="encoder: {name: hf_text, path: FOLDER}, and inputs.<text>.model: FOLDER",
    types="BERT",
    choose=_text_model,
    unread=lambda config: ("pooler.",),  # noqa: ARG005  (of any)
)


def _check_fit(config: Any, shape: InputShape, folder: Path) -> None:
    """Refuse texts numbered by another vocabulary, or longer than the model's positions."""
    (length,) = shape.shape
    if shape.vocabulary != config.vocab_size and shape.vocabulary != _own_tokens(folder):
        raise ConfigError(
            "the texts are not numbered by the tokeniser of this model",
            where=folder,
            got=f"a vocabulary of {shape.vocabulary}",
            expected=config.vocab_size,
            fix=f"set inputs.<text>.model: {folder}",
        )
    longest = getattr(config, "max_position_embeddings", None)
    if longest is not None and length > longest:
        raise ConfigError(
            "the texts are longer than the model's positions",
            where=folder,
            got=f"max_tokens {length}",
            expected=f"at most {longest}",
            fix=f"set inputs.<text>.max_tokens: {longest}",
        )


def _own_tokens(folder: Path) -> int | None:
    """Size of the folder's tokeniser; the table of embeddings is often rounded up."""
    try:
        return len(LocalModel.from_folder(folder))
    except ConfigError:
        return None
