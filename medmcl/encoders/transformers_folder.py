"""A transformers model that lies in a folder: no download, no pickle, no code of strangers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from medmcl.core.errors import ArtefactError, ConfigError, damage
from medmcl.core.lazy import import_extra
from medmcl.modalities.text.tokens import COPY_MODEL

BLOCK = re.compile(r"\.(?:layers?|h|blocks?|stages?)\.(\d+)(?=\.)")


@dataclass(frozen=True, kw_only=True)
class Reader:
    """How one encoder reads a folder.

    Attributes:
        encoder: Its name, for messages.
        kind: What it encodes, ``text`` or ``image``.
        example: How it is named in a recipe.
        types: Models that it can be, such as BERT.
        choose: Gives the part of a folder's configuration that is the encoder; `ValueError` if
            there is none.
        unread: Beginnings of the names of parameters that it never reads: they may be missing.
    """

    encoder: str
    kind: str
    example: str
    types: str
    choose: Callable[[Any], Any]
    unread: Callable[[Any], tuple[str, ...]]


def require_folder(folder: Path | None, reader: Reader) -> Path:
    """Give the folder of a model; `ConfigError` where a recipe names none, or none lies there."""
    if folder is None:
        raise ConfigError(
            f"the encoder '{reader.encoder}' needs the folder of a model", expected=reader.example
        )
    if not (folder / "config.json").is_file():
        raise ConfigError("no transformers model lies there", where=folder, fix=COPY_MODEL)
    return folder


def read_model(folder: Path, reader: Reader, *, pretrained: bool) -> Any:
    """Give the model in float32, with the folder's weights or with first weights.

    Raises:
        ExtraNotInstalledError: transformers is not installed.
        ConfigError: What the folder says is no model of this kind.
        ArtefactError: Its weights cannot be read, may run code, or do not fill the model.
    """
    transformers = import_extra("transformers", "text")
    local = {"local_files_only": True, "trust_remote_code": False}
    what = f"no {reader.kind} encoder can be built from there"
    expected = f"a model of a type that transformers knows, such as {reader.types}"
    with _quiet(transformers):
        with damage(folder, what, error=ConfigError, expected=expected, fix=None):
            config = reader.choose(transformers.AutoConfig.from_pretrained(str(folder), **local))
            model = transformers.AutoModel.from_config(config, dtype=torch.float32)
        if pretrained:
            model = _with_weights(transformers, folder, config, reader.unread(config))
    return model.train()


def _with_weights(transformers: Any, folder: Path, config: Any, unread: tuple[str, ...]) -> Any:
    if not any(folder.glob("*.safetensors")):
        others = [path.name for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".pth")]
        raise ArtefactError(
            "holds no .safetensors; other weights may run code when they are read",
            where=folder,
            got=", ".join(sorted(others)) or "no weights",
            fix="let somebody who trusts them save them: model.save_pretrained(FOLDER); or set "
            "pretrained: false for first weights",
        )
    again = "copy the folder again from its source"
    with damage(folder, "the weights cannot be read", error=ArtefactError, fix=again):
        model, info = transformers.AutoModel.from_pretrained(
            str(folder),
            config=config,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    missing = sorted(name for name in info["missing_keys"] if not name.startswith(unread))
    if missing or info["mismatched_keys"]:
        pooler = not info["mismatched_keys"] and all(n.startswith("pooler.") for n in missing)
        raise ArtefactError(
            "the weights do not fill the model of its config.json",
            where=folder,
            got=f"{len(missing)} missing, first {missing[:3]}; "
            f"{len(info['mismatched_keys'])} of another shape",
            fix="set another pool, such as cls: it was saved without what pools"
            if pooler
            else "copy the whole folder from its source",
        )
    return model


def depths_by_name(names: Iterable[str]) -> dict[str, int]:
    """Parameter to its layer: what lies before the blocks and embeddings are 0, block i is i + 1.

    The rest comes last. Blocks of stages are counted through.

    Args:
        names: In the order in which a model has its parts, which is that of its layers.
    """
    keys = {name: tuple(BLOCK.findall(name)[:2]) for name in names}
    blocks = [key for key in dict.fromkeys(keys.values()) if key]
    depths, last = {}, 0
    for name, key in keys.items():
        if key:
            last = len(blocks) + 1
            depths[name] = blocks.index(key) + 1
        else:
            depths[name] = 0 if "embed" in name else last
    return depths


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
