"""A local transformers model for texts; nothing is downloaded, no pickle, no code of strangers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medmcl.core.batch import InputShape
from medmcl.core.errors import ArtefactError, ConfigError
from medmcl.core.layers import masked_mean
from medmcl.encoders.encoded import Encoded, EncoderModule, require_axes, unmaskable
from medmcl.encoders.settings import HFTextSettings
from medmcl.encoders.text.transformer import PADDING
from medmcl.modalities.text.tokens import COPY_MODEL, LocalModel, import_transformers

BLOCK = re.compile(r"\.(?:layers?|h|blocks?)\.(\d+)\.")


class HFText(EncoderModule):
    """The encoder of a transformers folder: BERT and its like, without the pooler.

    The texts must be numbered by the tokeniser of the same folder (``inputs.<text>.model``).
    """

    Settings = HFTextSettings

    def __init__(self, shape: InputShape, settings: HFTextSettings) -> None:
        super().__init__()
        (length,) = require_axes(shape, ("tokens",), "hf_text")
        folder = _require_folder(settings.path)
        self.model: Any = _load(folder, settings.pretrained)
        _check_fit(self.model.config, shape, folder)
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
        found = {name: BLOCK.search(name) for name, _ in self.named_parameters()}
        last = 2 + max((int(block[1]) for block in found.values() if block), default=-1)
        return {
            name: int(block[1]) + 1 if block else 0 if "embed" in name else last
            for name, block in found.items()
        }


def _require_folder(folder: Path | None) -> Path:
    if folder is None:
        raise ConfigError(
            "the encoder 'hf_text' needs the folder of a model",
            expected="encoder: {name: hf_text, path: FOLDER}, and inputs.<text>.model: FOLDER",
        )
    if not (folder / "config.json").is_file():
        raise ConfigError("no transformers model lies there", where=folder, fix=COPY_MODEL)
    return folder


def _load(folder: Path, pretrained: bool) -> Any:
    """Give the model in float32, with the folder's weights or with first weights."""
    transformers = import_transformers()
    local = {"local_files_only": True, "trust_remote_code": False}
    with _quiet(transformers):
        try:
            config = transformers.AutoConfig.from_pretrained(str(folder), **local)
            if config.is_encoder_decoder or not hasattr(config, "hidden_size"):
                raise ValueError(f"{config.model_type} is no encoder of text")
            model = transformers.AutoModel.from_config(config, dtype=torch.float32)
        except Exception as error:  # transformers raises many kinds
            raise ConfigError(
                "no text encoder can be built from there",
                where=folder,
                got=" ".join(str(error).split())[:200],
                expected="a model of a type that transformers knows, such as BERT",
            ) from None
        if pretrained:
            model = _with_weights(transformers, folder, config)
    if getattr(model, "pooler", None) is not None:
        model.pooler = None  # never read, so it would never get a gradient
    return model.train()


def _with_weights(transformers: Any, folder: Path, config: Any) -> Any:
    if not any(folder.glob("*.safetensors")):
        others = [path.name for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".pth")]
        raise ArtefactError(
            "holds no .safetensors; other weights may run code when they are read",
            where=folder,
            got=", ".join(sorted(others)) or "no weights",
            fix="let somebody who trusts them save them: model.save_pretrained(FOLDER); or set "
            "pretrained: false for first weights",
        )
    try:
        model, info = transformers.AutoModel.from_pretrained(
            str(folder),
            config=config,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except Exception as error:  # transformers raises many kinds
        raise ArtefactError(
            "the weights cannot be read",
            where=folder,
            got=" ".join(str(error).split())[:200],
            fix="copy the folder again from its source",
        ) from None
    missing = sorted(name for name in info["missing_keys"] if not name.startswith("pooler."))
    if missing or info["mismatched_keys"]:
        raise ArtefactError(
            "the weights do not fill the model of its config.json",
            where=folder,
            got=f"{len(missing)} missing, first {missing[:3]}; "
            f"{len(info['mismatched_keys'])} of another shape",
            fix="copy the whole folder from its source",
        )
    return model


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


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Keep transformers from drawing bars and listing the keys, which are checked here."""
    logging = transformers.utils.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
