"""A pair graph that is learned while a stage trains (AutoBIND), and remembers how it came about.

Scores say how much two modalities know of one another. Every score is symmetric, and higher = more
alike. They are meant for rows that were not trained on: on training rows a contrastive loss makes
any two modalities look alike.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from medmcl.core.batch import Batch, Embeddings
from medmcl.core.config import lookup
from medmcl.core.contracts import Observation, ProbeRows
from medmcl.core.errors import ConfigError
from medmcl.core.findings import LEARNED_GRAPH, Finding, counted
from medmcl.objectives.pairs.pairs import (
    Edge,
    Pair,
    explicit_pairs,
    nearest_neighbours,
    spanning_tree,
)
from medmcl.objectives.settings import Learned

STEADY = 0.8
"""Mean Jaccard index of successive graphs, over the later half of rebuilds, below which a graph is
called unstable."""
ABOVE_NULL = 3.0
"""Standard deviations of the null that the margin of an edge must exceed."""

FADED = 0.5
"""Share of its highest score below which the last score of a pair that is still trained says that
the towers have learned the train people by heart."""

HARDLY = 0.2
"""Share of the steps that a pair must have been trained for before it may be left out unflagged."""

History = Sequence[Mapping[str, Any]]


def graph_findings(history: History, settings: Learned, allowed: Sequence[Pair]) -> list[Finding]:
    """Give warnings on a graph; none if nothing speaks against it.

    Args:
        history: What `LearnedPairs` noted, observation by observation.
        settings: How it was learned.
        allowed: Pairs that could be edges.
    """
    built = [row for row in history if row["phase"] != "warm-up"]
    if not built:
        return [_warning("never_built", "no graph was built before the stage ended",
                         "train longer, or shorten warm_up")]  # fmt: skip
    last, faded = built[-1], list(_faded(history))
    if last["phase"] == "no edge":
        return [*_unscored(history, settings), *faded, _no_edge(settings)]
    return [
        *_unscored(history, settings),
        *_unstable(built),
        *faded,
        *_at_null(last, longer=not faded),
        *_hardly_trained(history, allowed),
        *_isolated(last),
    ]


def _no_edge(settings: Learned) -> Finding:
    floor = settings.cut_below
    least = "" if floor is None else f" of at least {floor:g}"
    return _warning(
        "too_little_data",
        f"no pair of modalities has a score{least} on the probe rows; every pair is aligned",
        "do not read the graph; gather more data, or name the pairs",
    )


def _unscored(history: History, settings: Learned) -> Iterator[Finding]:
    rows = history[0].get("rows", {})
    missing = [pair for pair, score in history[-1]["scores"].items() if score is None]
    if missing:
        named = ", ".join(f"{pair} ({rows[pair]})" if pair in rows else pair for pair in missing)
        yield _warning(
            "unscored",
            f"{named}: fewer than {settings.min_rows} probe rows have both, so there "
            "is no score and no edge",
            f"raise probe_share (now {settings.probe_share:g}) or probe_rows (now "
            f"{settings.probe_rows}), or lower min_rows, below pairs: of the objective",
        )


def _unstable(built: History) -> Iterator[Finding]:
    steady = stability(built)
    if steady < STEADY:
        yield _warning(
            "unstable",
            f"the graph kept changing: successive graphs share {steady:.0%} of their edges "
            "(Jaccard index, later half of the rebuilds)",
            "lengthen warm_up, raise ema or hysteresis, or train longer; do not read the edges",
        )


def stability(built: History) -> float:
    """Mean Jaccard index of successive graphs over the later half of rebuilds; 1 = unchanged."""
    later = built[max(1, len(built) // 2) :]  # never the first: it follows the warm-up
    return 1.0 if not later else sum(row["jaccard"] for row in later) / len(later)


def _faded(history: History) -> Iterator[Finding]:
    """Pairs in use that once told much more about each other, beyond doubt, than they do now."""
    last, faded, best = history[-1], [], 0
    for a, b, _ in last["edges"]:
        pair = f"{a}~{b}"
        seen = [row for row in history if row["fresh"][pair] is not None]
        if not seen:
            continue
        most = max(seen, key=lambda row: row["fresh"][pair])
        is_sure = (most["null_sds"][pair] or 0.0) >= ABOVE_NULL
        if is_sure and seen[-1]["fresh"][pair] < FADED * most["fresh"][pair]:
            faded.append(
                f"{pair} ({most['fresh'][pair]:.2g} at step {most['step']}, "
                f"{seen[-1]['fresh'][pair]:.2g} at the end)"
            )
            best = max(best, most["step"])
    if faded:
        yield _warning(
            "faded",
            f"{', '.join(faded)}: the score on people kept apart fell to less than half while the "
            "pair was trained: the train people are learned by heart",
            f"train no longer than {best} steps (steps: or epochs: of the stage), with smaller "
            "towers or more weight_decay, or gather more data",
        )


def _at_null(last: Mapping[str, Any], *, longer: bool) -> Iterator[Finding]:
    weak = [
        f"{a}~{b}"
        for a, b, _ in last["edges"]
        if (last["null_sds"][f"{a}~{b}"] or 0.0) < ABOVE_NULL
    ]
    if weak:
        yield _warning(
            "margin_at_null",
            f"{', '.join(weak)}: aligned, yet held-back pairs are no more alike than rows paired "
            f"at random (margin below {ABOVE_NULL:g} standard deviations)",
            "do not read these edges; gather more data" + (", or train longer" if longer else ""),
        )


def _hardly_trained(history: History, allowed: Sequence[Pair]) -> Iterator[Finding]:
    """Pairs without an edge whose score is that of encoders which hardly ever saw the pair."""
    last = history[-1]
    steps = dict.fromkeys(allowed, 0)
    first = [allowed] if history[0]["step"] else []  # before the first observation: every pair
    graphs = [*first, *([(a, b) for a, b, _ in row["edges"]] for row in history[:-1])]
    times = [*([0] if first else []), *(row["step"] for row in history)]
    for pairs, (since, until) in zip(graphs, pairwise(times), strict=True):
        for pair in pairs:
            steps[pair] += until - since
    used = {(a, b) for a, b, _ in last["edges"]}
    hardly = [p for p in allowed if p not in used and steps[p] < HARDLY * last["step"]]
    if hardly:
        yield _warning(
            "locked_in",
            f"{counted(len(hardly), 'pair')} without an edge had less than {HARDLY:.0%} of the "
            "steps: whatever was trained looks more related than what was not",
            "set warm_up to a third, so that every pair is trained before the first graph",
        )


def _isolated(last: Mapping[str, Any]) -> Iterator[Finding]:
    if last["isolated"]:
        yield _warning(
            "isolated",
            f"{', '.join(last['isolated'])}: without an edge, and not trained since",
            "look at its scores; leave it out, or lower floor if it should be aligned",
        )


def _warning(code: str, what: str, fix: str) -> Finding:
    return Finding(code=f"graph.{code}", where=LEARNED_GRAPH, what=what, fix=fix, level="warning")


TEMPERATURES = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
"""Temperatures that the calibrated bound is tried at."""

Score = Callable[[Tensor, Tensor], float]


def cosine(a: Tensor, b: Tensor) -> float:
    """Mean cosine of the pairs, in [-1, 1].

    Source:
        AutoBIND, arXiv 2410.06395, as reviews of it report. It knows no zero: two
        collapsed modalities have 1, whatever they share.
    """
    return float((_unit(a) * _unit(b)).sum(1).mean())


def margin(a: Tensor, b: Tensor) -> float:
    """Mean cosine of the pairs minus that of all other combinations of rows, in [-2, 2]."""
    similarity = _unit(a) @ _unit(b).T
    own, rows = similarity.diagonal().sum(), len(similarity)
    return float(own / rows - (similarity.sum() - own) / (rows * (rows - 1)))


def cka(a: Tensor, b: Tensor) -> float:
    """Linear centred kernel alignment, in [0, 1]; tells related modalities before any training.

    Source:
        Kornblith et al. 2019, eq. (3), arXiv 1905.00414. Differs: none.
    """
    a, b = a - a.mean(0), b - b.mean(0)
    across = (a.T @ b).square().sum()
    own = torch.linalg.matrix_norm(a.T @ a) * torch.linalg.matrix_norm(b.T @ b)
    return float(across / own) if own > 0 else 0.0


def mutual_information(a: Tensor, b: Tensor) -> float:
    """Calibrated lower bound on the mutual information, nats, in [0, log B].

    log B - InfoNCE, the largest over `TEMPERATURES`, never below 0. At one temperature the bound is
    negative for weakly related modalities as soon as the model is too sure of itself, and the order
    of two modality pairs then says which was trained, not which is related.

    Source:
        van den Oord et al. 2018, section 2.3, arXiv 1807.03748 (the bound). Differs: the best of
        several temperatures; symmetric; floored.
    """
    similarity = _unit(a) @ _unit(b).T
    own = similarity.diagonal()
    best = 0.0
    for temperature in TEMPERATURES:
        logits = similarity / temperature
        spread = (logits.logsumexp(0) + logits.logsumexp(1)) / 2
        best = max(best, math.log(len(a)) - float((spread - own / temperature).mean()))
    return best


SCORES: dict[str, Score] = {
    "cosine": cosine,
    "margin": margin,
    "cka": cka,
    "mi": mutual_information,
}


def margin_in_null_sds(a: Tensor, b: Tensor) -> float:
    """How far `margin`'s pairs lie above pairs drawn at random, in standard deviations of those.

    The null is every way of pairing the rows anew, B! of them; its mean and standard deviation have
    a closed form, so nothing is drawn.

    Source:
        Hoeffding 1951, A combinatorial central limit theorem.
    """
    similarity = (_unit(a) @ _unit(b).T).double()
    whole = similarity.mean()
    rest = similarity - similarity.mean(0) - similarity.mean(1, keepdim=True) + whole
    deviation = (rest.square().sum() / (len(rest) - 1)).sqrt() / len(rest)
    above = similarity.diagonal().mean() - whole
    return float(above / deviation) if deviation > 1e-12 else 0.0


def score_pairs(
    embeddings: Embeddings, names: tuple[str, ...], score: Score, min_rows: int
) -> tuple[np.ndarray, np.ndarray]:
    """Score every two modalities over the rows that have both.

    Args:
        embeddings: Points of rows that no step trains on.
        names: Modalities, M of them.
        score: One of `SCORES`, or any function of two (B, D) tensors.
        min_rows: Pairs with fewer rows get no score.

    Returns:
        Scores (M, M), NaN where there is none and on the diagonal; rows that have both, (M, M).
    """
    size = len(names)
    scores, rows = np.full((size, size), math.nan), np.zeros((size, size), dtype=np.int64)
    for (i, first), (j, second) in combinations(enumerate(names), 2):
        both = embeddings.batch.both(first, second)
        rows[i, j] = rows[j, i] = int(both.sum())
        if rows[i, j] >= max(2, min_rows):
            a, b = (embeddings.pooled[name][both] for name in (first, second))
            scores[i, j] = scores[j, i] = score(a, b)
    return scores, rows


def by_pair(values: np.ndarray, names: tuple[str, ...]) -> Mapping[tuple[str, str], float]:
    """The upper half of a matrix (M, M), by pair of names."""
    return {
        (names[i], names[j]): float(values[i, j]) for i, j in combinations(range(len(names)), 2)
    }


def _unit(x: Tensor) -> Tensor:
    return functional.normalize(x.float(), dim=1)


LEAST_WEIGHT = 0.01
"""Of the heaviest edge: what an edge weighs at least where edges weigh by score."""


class LearnedPairs(nn.Module):
    """Aligns every pair first, then the edges of a graph that is built anew now and then.

    Keeps the contract `Watches`: the engine shows it the probe rows. Its whole history is in its
    state, so a resumed run builds the same graphs. Modalities are taken by name in the order of the
    alphabet, so that the order of the recipe decides nothing.

    Args:
        settings: How the graph is learned.
        modalities: Names, at least two.

    Source:
        AutoBIND, arXiv 2410.06395 (a spanning tree over modalities, rebuilt during training).
        Differs: a warm-up on every pair; scores on rows that are not trained on, calibrated and
        smoothed; edges without information are cut.
    """

    def __init__(self, settings: Learned, modalities: tuple[str, ...]) -> None:
        super().__init__()
        if len(modalities) < 2:
            raise ConfigError("there is no pair of modalities to align",
                              expected="at least two modalities with a tower")  # fmt: skip
        self.settings = settings
        self.names = tuple(sorted(modalities))
        self.possible: tuple[Pair, ...] = tuple(combinations(self.names, 2))
        self.allowed = self._allowed()
        self.history: list[dict[str, Any]] = []
        self._sums = np.zeros((len(self.names), len(self.names)))
        self._shares = np.zeros_like(self._sums)

    def _allowed(self) -> tuple[Pair, ...]:
        """Pairs that the settings leave open."""
        known = {name: name for name in self.names}
        if self.settings.learn == "fixed":
            for name in (name for pair in self.settings.among for name in pair):
                lookup("modality", name, known)
            named = explicit_pairs(self.settings.among).possible
            return tuple(sorted({(min(pair), max(pair)) for pair in named}))
        if self.settings.anchor is not None:
            anchor = lookup("modality", self.settings.anchor, known)
            return tuple(pair for pair in self.possible if anchor in pair)
        return self.possible

    def forward(self, *_: Embeddings | Batch) -> dict[Pair, float]:
        """Give the edges in force and their weights."""
        if not self.history:
            return dict.fromkeys(self.allowed, 1.0)
        return {(a, b): weight for a, b, weight in self.history[-1]["edges"]}

    @property
    def probe(self) -> ProbeRows:
        """How many rows of the train split scores are taken on."""
        return self.settings.probe

    def due(self, step: int, steps: int) -> bool:
        """At every rebuild, where the warm-up ends, and at the end; at the start without one."""
        if step == 0:
            return self._first(steps) == 0
        return step % self.settings.every == 0 or step in (self._first(steps), steps)

    def _first(self, steps: int) -> int:
        return round(self.settings.warm_up * steps)

    def observe(self, seen: Embeddings, step: int, steps: int) -> Observation:
        """Score every pair on the probe rows, and build the graph anew once the warm-up is over."""
        fresh, rows = score_pairs(
            seen, self.names, SCORES[self.settings.score], self.settings.min_rows
        )
        nulls, _ = score_pairs(seen, self.names, margin_in_null_sds, self.settings.min_rows)
        scores = self._smoothed(fresh)
        before = self._edges()
        warm = step < self._first(steps)
        edges = list(self.allowed) if warm else self._build(scores)
        phase = "warm-up" if warm else "learned"
        if not edges:
            edges, phase = list(self.allowed), "no edge"
        row: dict[str, Any] = {
            "step": step,
            "phase": phase,
            "edges": [[*edge, weight] for edge, weight in self._weighed(edges, scores, phase)],
            "scores": _named(scores, self.names),
            "fresh": _named(fresh, self.names),
            "null_sds": _named(nulls, self.names),
            "isolated": [name for name in self.names if not any(name in edge for edge in edges)],
            "changed": len(set(edges) ^ before),
            "jaccard": len(set(edges) & before) / len(set(edges) | before),
        }
        if not self.history:  # the same at every step
            row["rows"] = {f"{a}~{b}": int(n) for (a, b), n in by_pair(rows, self.names).items()}
        changed = bool(row["changed"]) or self.settings.weights == "score"
        self.history.append(row)
        return Observation(row=row, changed=changed)

    def _edges(self) -> set[Pair]:
        rows = self.history[-1]["edges"] if self.history else [(*pair, 1) for pair in self.allowed]
        return {(a, b) for a, b, _ in rows}

    def _smoothed(self, fresh: np.ndarray) -> np.ndarray:
        """Running mean of the scores; the first ones weigh no more than their share."""
        keep, has = self.settings.ema, ~np.isnan(fresh)
        self._sums[has] = keep * self._sums[has] + (1 - keep) * fresh[has]
        self._shares[has] = keep * self._shares[has] + (1 - keep)
        known = self._shares > 0
        return np.where(known, self._sums / np.where(known, self._shares, 1.0), math.nan)

    def _build(self, scores: np.ndarray) -> list[Pair]:
        """The graph that the settings ask for, on edges that are not cut."""
        left = np.full_like(scores, -math.inf)
        floor, current = self.settings.cut_below, self._edges()
        number = {name: i for i, name in enumerate(self.names)}
        for a, b in self.allowed:
            i, j = number[a], number[b]
            if not math.isnan(scores[i, j]) and (floor is None or scores[i, j] >= floor):
                bonus = self.settings.hysteresis if (a, b) in current else 0.0
                left[i, j] = left[j, i] = scores[i, j] + bonus
        return [(self.names[i], self.names[j]) for i, j in self._chosen(left)]

    def _chosen(self, left: np.ndarray) -> list[Edge]:
        settings = self.settings
        if settings.learn == "tree":
            return spanning_tree(left)
        if settings.learn == "knn":
            near = nearest_neighbours(left, settings.neighbours)
            return sorted({*spanning_tree(left), *near})
        kept = [(i, j) for i, j in combinations(range(len(left)), 2) if left[i, j] > -math.inf]
        if settings.learn == "star" and settings.anchor is None:
            sums = np.where(np.isneginf(left), 0.0, left).sum(0)
            middle = int(np.argmax(sums))
            return [edge for edge in kept if middle in edge]
        return kept

    def _weighed(
        self, edges: list[Pair], scores: np.ndarray, phase: str
    ) -> list[tuple[Pair, float]]:
        if self.settings.weights == "equal" or phase != "learned":
            return [(edge, 1.0) for edge in edges]
        worth = {edge: max(0.0, score) for edge, score in by_pair(scores, self.names).items()}
        most = max(worth[edge] for edge in edges) or 1.0
        return [(edge, max(worth[edge] / most, LEAST_WEIGHT)) for edge in edges]

    def findings(self) -> list[Finding]:
        """What a reader must know before believing the graph; empty if nothing is against it."""
        return graph_findings(self.history, self.settings, self.allowed)

    def get_extra_state(self) -> Tensor:
        """History and running means as JSON in a tensor of bytes, which safetensors can hold."""
        state = {
            "names": self.names,
            "sums": self._sums.tolist(),
            "shares": self._shares.tolist(),
            "history": self.history,
        }
        return torch.from_numpy(np.frombuffer(json.dumps(state).encode(), dtype=np.uint8).copy())

    def set_extra_state(self, state: Tensor) -> None:
        """Take back what `get_extra_state` gave."""
        read: Mapping[str, Any] = json.loads(state.cpu().numpy().tobytes())
        if tuple(read["names"]) != self.names:
            raise ConfigError("the graph of the checkpoint is over other modalities",
                              got=read["names"], expected=self.names)  # fmt: skip
        self._sums, self._shares = np.array(read["sums"]), np.array(read["shares"])
        self.history = list(read["history"])


def _named(values: np.ndarray, names: tuple[str, ...]) -> dict[str, float | None]:
    """Scores by ``a~b``; None where there is none."""
    return {
        f"{a}~{b}": None if math.isnan(value) else value
        for (a, b), value in by_pair(values, names).items()
    }
