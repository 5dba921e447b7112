"""A counter's sums as plain arrays, to be written down and added up again."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy import sparse

from medmcl.cooccurrence.count.counter import PairCounter
from medmcl.cooccurrence.count.counts import Block, Margin
from medmcl.cooccurrence.count.tally import Tally


def state_of(counter: PairCounter) -> dict[str, np.ndarray]:
    """Give all sums so far as plain arrays (see `absorb`)."""
    found = {
        "scalars": np.array([counter.units, counter.patients, *counter.tally.as_dict().values()])
    }
    for number, (name, margin) in enumerate(counter.margins.items()):
        found[f"margin/{number}"] = np.stack([margin.tokens, margin.pairs, _given(margin)])
        found[f"diagonal/{number}"] = np.stack(counter.diagonals[name])
    for number, total in enumerate(counter.sums.values()):
        block = total.peek()
        for kind, matrix in (("pairs", block.pairs), ("people", block.patients)):
            if matrix is not None:
                for part in ("data", "indices", "indptr"):
                    found[f"block/{number}/{kind}/{part}"] = _narrow(getattr(matrix, part))
    return found


def absorb(counter: PairCounter, state: Mapping[str, np.ndarray]) -> None:
    """Add the sums of another counter with the same vocabularies and rules."""
    scalars = state["scalars"].tolist()
    counter.units += scalars[0]
    counter.patients += scalars[1]
    counter.tally += Tally(*scalars[2:])
    for number, name in enumerate(counter.vocabularies):
        counter.margins[name] = counter.margins[name] + Margin(*state[f"margin/{number}"])
        more, mine = state[f"diagonal/{number}"], counter.diagonals[name]
        counter.diagonals[name] = (mine[0] + more[0], mine[1] + more[1])
    for number, ((a, b), total) in enumerate(counter.sums.items()):
        shape = (len(counter.vocabularies[a]), len(counter.vocabularies[b]))
        found = []
        for kind in ("pairs", "people"):
            key = f"block/{number}/{kind}/"
            there = f"{key}data" in state
            found.append(_matrix(state, key, shape) if there else None)
        assert found[0] is not None
        total.add(Block(found[0], found[1]))


def _given(margin: Margin) -> np.ndarray:
    assert margin.patients is not None  # the counter always counts them
    return margin.patients


def _narrow(values: np.ndarray) -> np.ndarray:
    """Give counts in 32 bits where nothing is lost."""
    return values.astype(np.uint32) if values.max(initial=0) < 1 << 32 else values


def _matrix(state: Mapping[str, np.ndarray], key: str, shape: tuple[int, int]) -> sparse.csr_array:
    data, indices, indptr = (state[key + p].astype(np.int64) for p in ("data", "indices", "indptr"))
    return sparse.csr_array((data, indices, indptr), shape=shape)
