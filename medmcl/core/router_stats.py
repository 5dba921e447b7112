"""What is said of a router token by token, and summed row by row.

Encoders report these sums in `Embeddings.stats`; router losses are functions of them alone. A sum
over a row is small, can be gathered over ranks like an embedding, and adds up to the global batch.

Gates are softmax over all experts, (tokens N, experts E); logits are what goes into it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

FIELDS = ("gates", "routed", "first", "load", "entropy", "z", "kept", "tokens")


@dataclass(frozen=True, kw_only=True)
class RouterSums:
    """Sums over the routed tokens of each row, in every layer with experts (L of them).

    Attributes:
        gates: Clean gates, (B, L, E).
        routed: Gates that routed: with the noise of training, (B, L, E).
        first: Tokens whose first choice is this expert, (B, L, E): that with the largest routing
            gate, or the largest sum of gate and bias where there is a bias.
        load: Probability that the expert is among the K largest under fresh noise, (B, L, E);
            None without noise, where it has no gradient.
        entropy: Entropy of the clean gates in nats, (B, L, 1).
        z: Squared log-sum-exp of the clean logits, (B, L, 1).
        kept: Tokens that at least one expert took, (B, L, 1).
        tokens: Tokens that were routed, (B, L, 1).
    """

    gates: Tensor
    routed: Tensor
    first: Tensor
    load: Tensor | None
    entropy: Tensor
    z: Tensor
    kept: Tensor
    tokens: Tensor

    def stats(self, modality: str) -> dict[str, Tensor]:
        """Give the sums under the names they have in `Embeddings.stats`."""
        named = {field: getattr(self, field) for field in FIELDS}
        return {stat_name(f, modality): x for f, x in named.items() if x is not None}

    @classmethod
    def of(cls, named: Mapping[str, Tensor | None]) -> RouterSums:
        """Make it of fields by name; what is not named is None."""
        return cls(**{field: named.get(field) for field in FIELDS})  # type: ignore[arg-type]  # optional ones only

    @classmethod
    def read(cls, stats: Mapping[str, Tensor], modality: str) -> RouterSums | None:
        """Take the sums of a modality back from `Embeddings.stats`; None if there are none."""
        if stat_name("gates", modality) not in stats:
            return None
        return cls.of({field: stats.get(stat_name(field, modality)) for field in FIELDS})


def stat_name(field: str, modality: str) -> str:
    """Name in `Embeddings.stats` of one of the sums."""
    return f"router/{field}/{modality}"


def routed_modalities(stats: Mapping[str, Tensor]) -> list[str]:
    """Modalities that `Embeddings.stats` (or sums of them) holds router sums of."""
    prefix = stat_name("gates", "")
    return [name.removeprefix(prefix) for name in stats if name.startswith(prefix)]


def entropy(gates: Tensor) -> Tensor:
    """Entropy of each distribution of the last axis in nats, (...); 0 = one expert, at most log E.

    Exact also where a gate has underflowed to zero, and with a finite gradient there.
    """
    tiny = torch.finfo(gates.dtype).tiny
    return -(gates * gates.clamp(min=tiny).log()).sum(-1)


def load_probability(logits: Tensor, noisy_logits: Tensor, noise_std: float, k: int) -> Tensor:
    """Probability that an expert is among the K largest of a token if its noise is drawn anew.

    p = Phi((logit - threshold) / sigma), where the threshold is the K-th largest noisy logit.

    Source:
        Shazeer et al. 2017, arXiv 1701.06538, appendix A, as Riquelme et al. 2021, arXiv
        2106.05974, use it. Differs: none; an expert's own noise is not left out of the threshold.

    Args:
        logits: Without noise, (N, E).
        noisy_logits: With the noise that routed, (N, E).
        noise_std: sigma, the standard deviation of that noise; above 0.
        k: Experts a token.
    """
    threshold = noisy_logits.topk(k, dim=-1).values[..., -1:]
    return torch.special.ndtr((logits - threshold) / noise_std)


def z_squared(logits: Tensor) -> Tensor:
    """Squared log-sum-exp of the logits of each token, (...)."""
    return logits.logsumexp(-1).square()
