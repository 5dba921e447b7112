"""Encoders of other packages: whether what they give is what an encoder must give."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from medmcl.core.lazy import refuse_slips
from medmcl.encoders.build import ENCODERS
from medmcl.encoders.encoded import Encoded, Encoder
from medmcl.modalities.outside import fails

TOLERANCE = 1e-3
"""By which share of its largest number a row alone may differ from that row among others."""


def rehearse_encoder(name: str, encoder: nn.Module, row: Tensor) -> None:
    """Encode a row alone, beside a row of zeros and with tokens hidden, in evaluation mode.

    Args:
        name: Kind of encoder; nothing is done with one that ships.
        encoder: The encoder, left as it was.
        row: What it reads of one record, (1, ...).

    Raises:
        ContractError: It fails, or gives what it must not give; all of it at once.
    """
    if name not in ENCODERS.outside:
        return
    package = ENCODERS.package(name)
    modes = {part: part.training for part in encoder.modules()}
    encoder.eval()
    said = f"the encoder '{name}' (package {package}) failed on rows of shape {tuple(row.shape)}"
    fix = "correct the package (medmcl/encoders/encoded.py has the contract)"
    try:
        with fails(said, fix), torch.no_grad():
            slips = _slips(cast(Encoder, encoder), row)
    finally:
        for part, mode in modes.items():
            part.training = mode
    refuse_slips(ENCODERS.group, name, package, slips)


def _slips(encoder: Encoder, row: Tensor) -> list[str]:
    rows = torch.cat([row, torch.zeros_like(row)])
    both, alone = encoder(rows, None), encoder(row.clone(), None)
    if not isinstance(both, Encoded):
        return [f"forward must give an Encoded: it gives {type(both).__name__}"]
    slips = [] if torch.equal(rows[:1], row) else ["forward must leave the rows it reads unchanged"]
    if both.features.dtype != torch.float32:
        slips.append(f"features must be torch.float32: they are {both.features.dtype}")
    if tuple(both.features.shape) != (2, encoder.width):
        got = tuple(both.features.shape)
        slips.append(f"features must be (B, width), here {(2, encoder.width)}: they are {got}")
    elif not both.features.isfinite().all():
        slips.append("features of a record or of zeros are not finite")
    elif float((both.features[:1] - alone.features).abs().max()) > TOLERANCE * float(
        both.features.abs().max()
    ):
        slips.append("in evaluation mode features of a row must not depend on the rows beside it")
    slips += _of_tokens("tokens", both.tokens, None, encoder.width)
    count = encoder.num_tokens
    if count is not None and count > 1:
        hidden = torch.arange(count, device=row.device).expand(2, count) < count // 2
        seen = encoder(rows, hidden)
        slips += _of_tokens("visible tokens", seen.tokens, count - count // 2, encoder.width)
    return slips


def _of_tokens(what: str, tokens: Tensor | None, count: int | None, width: int) -> list[str]:
    if tokens is None:
        return [] if count is None else [f"there must be {what}, as num_tokens is not None"]
    number = tokens.shape[1] if tokens.ndim > 1 and count is None else count
    if tuple(tokens.shape) == (2, number, width):
        return []
    return [f"{what} must be {(2, number, width)}: they are {tuple(tokens.shape)}"]
