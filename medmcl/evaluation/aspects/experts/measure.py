"""What the experts of a shared tower take: shares, words and patches, of rows of one split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medmcl.core.contracts import Adapter, Spells
from medmcl.core.rng import numpy_generator
from medmcl.core.suppression import FEWEST_SUBJECTS
from medmcl.evaluation.aspects.experts.content import (
    ExpertContent,
    TakenPiece,
    TakenWord,
    can_cut,
    cut,
    surest,
    taken_words,
)

if TYPE_CHECKING:
    from medmcl.evaluation.aspects.experts.aspect import ExpertsSpec
    from medmcl.evaluation.aspects.scene import Scene

SPLIT = "tuning"
"""Rows that are looked at: no weight was fitted to them, and held_out is not opened for it."""

NO_WORD = (
    "words of '{name}' left out: no word that an expert takes more often than others do comes from "
    f"{FEWEST_SUBJECTS} people"
)


def expert_content(spec: ExpertsSpec, scene: Scene) -> ExpertContent | str:
    """Look at what the experts of a stage's last layer take of some rows of the tuning split.

    Rows are drawn by the seed. Routing is as in evaluation: without noise, nothing dropped.

    Returns:
        What they take; or why nothing can be said.
    """
    prepared, model = scene.prepared, scene.towers(spec.stage)
    count = scene.experts(model)
    if not count:
        return f"experts left out: stage '{spec.stage}' has none"
    names = [name for name in scene.towers_of(spec.stage) if name in prepared.adapters]
    rows = prepared.rows(SPLIT, names, "any") if names else np.zeros(0, dtype=np.int64)
    if not len(rows):
        return f"experts left out: no {SPLIT} sample has a modality of stage '{spec.stage}'"
    if len(rows) > spec.rows:
        draw = numpy_generator(scene.seed, "experts", spec.stage)
        rows = np.sort(draw.choice(rows, spec.rows, replace=False))
    found = _routed(model, spec.stage, names, scene, rows)
    words, hidden, pieces, leads, left_out = {}, {}, {}, {}, []
    for name, one in found.items():
        adapter, subjects = prepared.adapters[name], prepared.subjects[one.rows]
        grid = model.tower(name).facts.grid
        if isinstance(adapter, Spells):
            if spec.shown_words and one.inputs.shape == one.expert.shape:
                words[name], hidden[name] = _words(one, subjects, adapter, spec.shown_words)
                left_out += [] if words[name] else [NO_WORD.format(name=name)]
            elif spec.shown_words:
                left_out.append(f"words of '{name}' left out: its tokens are not those of the text")
        elif spec.shown_pieces and can_cut(adapter.input_shape, grid):
            pieces[name], leads[name] = _pieces(one, subjects, adapter, grid, spec.shown_pieces)
        elif spec.shown_pieces:
            left_out.append(f"pieces of '{name}' left out: no patches of an image or a signal")
    return ExpertContent(
        stage=spec.stage,
        block=model.trunk.expert_blocks[-1],
        split=SPLIT,
        rows=len(rows),
        subjects=len(np.unique(prepared.subjects[rows])),
        shares={name: one.shares(count) for name, one in found.items()},
        gates={name: one.mean_gate for name, one in found.items()},
        words=words,
        hidden_words=hidden,
        pieces=pieces,
        names=leads,
        left_out=tuple(left_out),
    )


@dataclass(frozen=True, kw_only=True)
class _Routed:
    """Tokens of one modality in R rows that have it.

    Attributes:
        rows: Their sample numbers, (R,).
        inputs: What the encoder read, (R, ...).
        expert: Who took each token in the last layer, (R, T); below 0: nobody.
        gate: With which gate, (R, T).
    """

    rows: np.ndarray
    inputs: np.ndarray
    expert: np.ndarray
    gate: np.ndarray

    def shares(self, experts: int) -> np.ndarray:
        """Share of the tokens that each expert takes, (E,)."""
        counts = np.bincount(self.expert[self.expert >= 0], minlength=experts)
        return np.asarray(counts / max(1, counts.sum()))

    @property
    def mean_gate(self) -> float:
        """Mean gate of the tokens that somebody takes; 0 if there is none."""
        taken = self.gate[self.expert >= 0]
        return float(taken.mean(dtype=np.float64)) if taken.size else 0.0


def _routed(
    model: Any, stage: str, names: Sequence[str], scene: Scene, rows: np.ndarray
) -> dict[str, _Routed]:
    """Route rows through the tower, plainly; modality to what became of its tokens."""
    parts: dict[str, list[tuple[np.ndarray, ...]]] = {}
    for chosen, batch in scene.batches(stage, rows, names):
        for name, one in scene.routes(model, batch).items():
            here = batch.present[name]
            made = (batch.inputs[name][here], one.expert[here, :, -1], one.gate[here, :, -1])
            own = (chosen[here.cpu().numpy()], *(x.cpu().numpy() for x in made))
            parts.setdefault(name, []).append(own)
    joined = {name: [np.concatenate(x) for x in zip(*p, strict=True)] for name, p in parts.items()}
    return {
        name: _Routed(rows=x[0], inputs=x[1], expert=x[2], gate=x[3]) for name, x in joined.items()
    }


def _words(
    one: _Routed, subjects: np.ndarray, adapter: Spells, most: int
) -> tuple[list[TakenWord], int]:
    """Words that stand out with each expert, and how many pairs of both stay unnamed."""
    whose = np.broadcast_to(subjects[:, None], one.expert.shape)
    found, hidden = taken_words(
        one.expert.reshape(-1), one.inputs.reshape(-1), whose.reshape(-1), most=most
    )
    return [one.named(adapter.spell(one.number)) for one in found], hidden


def _pieces(
    one: _Routed, subjects: np.ndarray, adapter: Adapter, grid: Any, most: int
) -> tuple[list[TakenPiece], tuple[str, ...]]:
    """Pieces that each expert takes with the highest gates, and the names of their leads."""
    shape, found = adapter.input_shape, []
    names: tuple[str, ...] = ()
    for expert, places in surest(one.expert, one.gate, subjects, most=most).items():
        for row, token in places:
            pixels, names = cut(one.inputs[row], shape, grid, token)
            place = divmod(token, grid[1])
            gate = float(one.gate[row, token])
            found.append(TakenPiece(expert=expert, gate=gate, place=place, pixels=pixels))
    return found, names
