"""Objectives of other packages: whether what they charge is what an objective must charge."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from medmcl.core.batch import Batch, Embeddings, Term
from medmcl.core.lazy import refuse_slips
from medmcl.modalities.outside import fails
from medmcl.objectives.build import OBJECTIVES


def rehearse_objective(
    name: str, objective: nn.Module, seen: Mapping[str, Embeddings], batch: Batch
) -> None:
    """Charge once for what a model made of a few rows.

    Args:
        name: Kind of objective.
        objective: The objective; it may change.
        seen: View to what the model made of it, of every view that the objective names.
        batch: The rows.

    Raises:
        ContractError: It fails, or gives what it must not give.
    """
    package = OBJECTIVES.package(name)
    said = f"the objective '{name}' (package {package}) failed on {len(batch)} rows"
    with fails(said, "correct the package (docs/extend.md has the contract)"):
        terms = objective(seen, batch)
    slips = []
    if not isinstance(terms, Mapping):
        slips.append(f"forward must give a dict of Term by name: it gives {type(terms).__name__}")
    for label, term in terms.items() if isinstance(terms, Mapping) else ():
        if label not in objective.terms:  # type: ignore[operator]  # a tuple of names
            slips.append(f"it charges '{label}', and its terms are {objective.terms}")
        if not isinstance(term, Term):
            slips.append(
                f"'{label}' must be a Term(value, count=rows): it is {type(term).__name__}"
            )
        elif not isinstance(term.value, torch.Tensor) or term.value.ndim:
            slips.append(f"the value of '{label}' must be a tensor without axes")
        elif not term.value.isfinite():
            slips.append(f"the value of '{label}' must be finite: it is {float(term.value)}")
    refuse_slips(OBJECTIVES.group, name, package, slips)
