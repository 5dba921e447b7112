"""Numbers on routers, read from the lines that training wrote, and how much they decide."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

Curves = Mapping[str, Sequence[Mapping[str, Any]]]
_NUMBER = re.compile(r"experts/(\w+)/(.+)/(\d+)")
"""Measure, modality and block, as `medmcl.evaluation.metrics.routing.describe_routers` names it."""


def expert_rows(curves: Curves) -> list[dict[str, Any]]:
    """Give a row for each stage, split, step, modality and block that routers were described at."""
    return [{key: row[key] for key in row if key != "share"} for row in _described(curves)]


def kept_rows(curves: Curves, kept: Mapping[str, int]) -> list[dict[str, Any]]:
    """Give those of the weights that a stage keeps, each with the ``share`` of every expert, (E,).

    On the tuning split; of a stage without tuning rows, over its last steps of training.

    Args:
        curves: Stage to lines of the record.
        kept: Stage to the step whose weights it keeps; the last tuning line if not known.
    """
    last = {}
    for stage, lines in curves.items():
        told = [line for line in lines if any(key.startswith("experts/share/") for key in line)]
        tuning = [line for line in told if line.get("split") == "tuning"]
        exact = [line for line in tuning if line.get("step") == kept.get(stage)]
        last[stage] = (exact or tuning or told)[-1:]
    return [row for row in _described(last) if "share" in row]


def share_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Give a row for each expert of `kept_rows`; what was not recorded is None."""
    names = ("stage", "split", "step", "modality", "block", "mutual_information", "effective")
    return [
        {**{name: row.get(name) for name in names}, "expert": expert, "share": share}
        for row in rows
        for expert, share in enumerate(row["share"])
    ]


def _described(curves: Curves) -> list[dict[str, Any]]:
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for stage, lines in curves.items():
        for line in lines:
            for key, value in line.items():
                if named := _NUMBER.fullmatch(key):
                    about = {
                        "stage": stage, "split": line.get("split", "train"),
                        "step": line.get("step", 0), "modality": named[2], "block": int(named[3]),
                        "tokens": line.get(f"experts/tokens/{named[2]}"),
                    }  # fmt: skip
                    found.setdefault(tuple(about.values()), about)[named[1]] = value
    return list(found.values())


LITTLE = 0.05
"""Information below this share of log E says little."""
EVEN = 0.9
"""Mean entropy of a token's gates above this share of log E: the gates are nearly even."""
MEANS_LITTLE = "gates are nearly even: which expert is first means little"


def information_share(row: Mapping[str, Any], experts: int) -> float | None:
    """Mutual information of expert and token over its ceiling log E, 0 to 1.

    Args:
        row: With ``mutual_information`` in nats.
        experts: E; of one expert there is no share.
    """
    found = row.get("mutual_information")
    return None if found is None or experts < 2 else float(found) / math.log(experts)


def evenness(row: Mapping[str, Any], experts: int) -> float | None:
    """Mean entropy of a token's gates over its ceiling log E: H(mean gates) less the information.

    1: all gates are 1/E; 0: each token is sure of one expert.

    Args:
        row: With ``mutual_information`` in nats and ``effective``, exp(H(mean gates)).
        experts: E.
    """
    share, effective = information_share(row, experts), row.get("effective")
    if share is None or effective is None:
        return None
    return math.log(effective) / math.log(experts) - share


def undecided(rows: Sequence[Mapping[str, Any]], experts: int) -> str:
    """Say so if the information is below 5 % of its ceiling for every modality; else nothing.

    Little information has two causes: gates that are nearly even, and gates that are the same for
    each token of a modality, which may well be sure.
    """
    shares = [information_share(row, experts) for row in rows]
    if not shares or any(share is None or share >= LITTLE for share in shares):
        return ""
    is_even = all((evenness(row, experts) or 0) > EVEN for row in rows)
    same = "the tokens of a modality have nearly the same gates, whatever they show"
    said = MEANS_LITTLE if is_even else same
    return f"Below {LITTLE:.0%} of its ceiling for every modality: {said}."
