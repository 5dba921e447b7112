"""What speaks against a learned pair graph: judged from its history alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from medmcl.core.findings import LEARNED_GRAPH, Finding, counted
from medmcl.objectives.pairs.pairs import Pair
from medmcl.objectives.pairs.settings import Learned

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
