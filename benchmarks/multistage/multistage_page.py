"""The tables of `multistage`, from its runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.study import Row, drawn, grid

ARMS = ("base", "stage_1", "stage_2", "joined", "distilled", "ensemble", "placebo", "last",
        "oracle", "ceiling", "untrained")  # fmt: skip
SHORT = ("base", "joined", "ensemble", "placebo", "oracle", "ceiling", "untrained")
IN_FULL = "main"
"""Setting whose tables are printed whole; of others the hardest factor."""
AGAINST = ("base", "ensemble", "placebo", "last")
TRAINED_WITHIN = {"groups_1": "stage_1", "groups_2": "stage_2", "random_1": "placebo_1",
                  "random_2": "placebo_2", "last_groups": "last_2"}  # fmt: skip
DRAWS = 2000


def rights(runs: Sequence[Row], key: str, what: str, arm: str) -> list[np.ndarray]:
    """Give for each seed who (or which pair) an arm has right, (N,) bool."""
    found = []
    for one in runs:
        rows = [r for r in one["rows"] if r.get(key) == what and r.get("arm") == arm]
        found += [
            np.unpackbits(np.frombuffer(bytes.fromhex(r["right"]), np.uint8))[: r["n"]]
            for r in rows
        ]
    return [row.astype(float) for row in found]


def interval(values: Sequence[np.ndarray]) -> str:
    """Mean over seeds, its interval over held-out subjects, and the seeds: least to most.

    The world changes with the seed, so subjects of each are drawn apart.
    """
    if not values:
        return ""
    samples = drawn(tuple(map(len, values)), DRAWS)
    means = [row[chosen].mean(axis=1) for chosen, row in zip(samples, values, strict=True)]
    seeds = [100 * row.mean() for row in values]
    low, high = 100 * np.quantile(np.mean(means, axis=0), [0.025, 0.975])
    spread = f"; {min(seeds):.1f} to {max(seeds):.1f}" if len(seeds) > 1 else ""
    return f"{np.mean(seeds):.1f} ({low:.1f} to {high:.1f}{spread})"


def arms_of(runs: Sequence[Row], key: str, names: Sequence[str]) -> str:
    """One row an arm, one column a factor or kind of pairs."""
    lines = []
    for arm in ARMS:
        cells = [interval(rights(runs, key, name, arm)) for name in names]
        if any(cells):
            lines.append([arm, *cells])
    return grid(["arm", *names], lines)


def differences(runs: Sequence[Row], key: str, names: Sequence[str]) -> str:
    """What MCL has more than each control, paired by subject."""
    lines = []
    for arm in (*AGAINST, "distilled"):
        cells = []
        for name in names:
            own, other = (rights(runs, key, name, one) for one in ("joined", arm))
            paired = [a - b for a, b in zip(own, other, strict=True)] if other else []
            cells.append(interval(paired) if other else "")
        if any(cells):
            lines.append([arm, *cells])
    return grid(["joined less", *names], lines)


def clusters(runs: Sequence[Row], factors: Sequence[str]) -> str:
    """Mutual information of the clusters of each stage with each factor, least to most."""
    names = list(dict.fromkeys(r["clusters"] for one in runs for r in one["rows"] if "nmi" in r))
    lines = []
    for name in names:
        cells = []
        for factor in factors:
            found = [r["nmi"] for one in runs for r in one["rows"]
                     if r.get("clusters") == name and r["factor"] == factor]  # fmt: skip
            cells.append(f"{min(found):.2f} to {max(found):.2f}")
        lines.append([name, *cells])
    return grid(["clusters", *factors], lines)


def mean(values: Sequence[np.ndarray]) -> str:
    """Mean over seeds and, of several, least to most."""
    seeds = [100 * row.mean() for row in values]
    spread = f" ({min(seeds):.1f} to {max(seeds):.1f})" if len(seeds) > 1 else ""
    return f"{np.mean(seeds):.1f}{spread}" if seeds else ""


def summary(every: Sequence[Row], key: str, what: str) -> str:
    """One row a setting: arms and what MCL has more than three of them, of one factor or pairs."""
    settings = list(dict.fromkeys(one["setting"] for one in every))
    told = {setting: [one for one in every if one["setting"] == setting] for setting in settings}
    shown = [arm for arm in SHORT if any(rights(runs, key, what, arm) for runs in told.values())]
    less = [arm for arm in ("base", "ensemble", "placebo") if arm in shown]
    heads = ["setting", "seeds", *shown, *(f"joined less {arm}" for arm in less)]
    lines = []
    for setting, runs in told.items():
        if not (own := rights(runs, key, what, "joined")):
            continue
        cells = [mean(rights(runs, key, what, arm)) for arm in shown]
        for arm in less:
            other = rights(runs, key, what, arm)
            paired = [a - b for a, b in zip(own, other, strict=True)] if other else []
            cells.append(interval(paired))
        lines.append([setting, str(len(runs)), *cells])
    return grid(heads, lines)


def in_full(world: str, runs: Sequence[Row]) -> dict[str, str]:
    """Every table of one setting."""
    own = [r for one in runs for r in one["rows"]]
    factors = list(dict.fromkeys(r["factor"] for r in own if "accuracy" in r))
    pairs = list(dict.fromkeys(r["pairs"] for r in own if "pairs" in r))
    seeds = ", ".join(str(one["seed"]) for one in runs)
    cpu = [one["cpu_seconds"] for one in runs]
    took = f"{min(cpu):.0f} to {max(cpu):.0f} CPU seconds a seed"
    found = {
        f"{world} seeds": f"{seeds}; {took}; {of_clustering(runs)}",
        f"{world} arms": arms_of(runs, "factor", factors),
        f"{world} less": differences(runs, "factor", factors),
        f"{world} clusters": clusters(runs, factors),
    }
    if pairs:  # both of a pair right
        found[f"{world} pairs"] = arms_of(runs, "pairs", pairs)
        found[f"{world} pairs less"] = differences(runs, "pairs", pairs)
    return found


def of_clustering(runs: Sequence[Row]) -> str:
    """What a clustering takes of the wall time of the stage within its groups."""
    share = [
        one["wall_seconds"][name] / one["wall_seconds"][stage]
        for one in runs
        for name, stage in TRAINED_WITHIN.items()
        if stage in one["wall_seconds"]
    ]
    return (
        f"a clustering takes {100 * min(share):.1f} to {100 * max(share):.1f} % (median "
        f"{100 * float(np.median(share)):.1f} %) of the time of the stage within its groups"
    )


def parts(rows: dict[str, list[Row]]) -> dict[str, str]:
    """Every table that there are rows for."""
    found = {}
    for world, runs in rows.items():
        every = sorted(runs, key=lambda one: one["setting"] != IN_FULL)
        full = [one for one in every if one["setting"] == IN_FULL]
        if full:
            found |= in_full(world, full)
        own = [r for one in every for r in one["rows"]]
        factor = list(dict.fromkeys(r["factor"] for r in own if "accuracy" in r))[-1]
        found[f"{world} time"] = of_clustering(every)
        found[f"{world} settings"] = summary(every, "factor", factor)
        for kind in dict.fromkeys(r["pairs"] for r in own if "pairs" in r):
            found[f"{world} settings, {kind}"] = summary(every, "pairs", kind)
    return found
