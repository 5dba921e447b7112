"""Numbers on routers, read from the lines that training wrote, and how much they decide."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

Curves = Mapping[str, Sequence[Mapping[str, Any]]]
MEASURES = ("effective", "mutual_information", "used", "dropped")
"""Of `medmcl.evaluation.metrics.routing.describe_routers`, those of a modality in a block."""


def expert_rows(curves: Curves) -> list[dict[str, Any]]:
    """Give a row for each stage, split, step, modality and block that routers were described at."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for stage, lines in curves.items():
        for line in lines:
            for key, value in line.items():
                measure, modality, block = _parts(key)
                if measure not in MEASURES:
                    continue
                about = {
                    "stage": stage, "split": line.get("split", "train"),
                    "step": line.get("step", 0), "modality": modality, "block": block,
                    "tokens": line.get(f"experts/tokens/{modality}"),
                }  # fmt: skip
                row = found.setdefault(tuple(about.values()), about)
                row[measure] = value
    return list(found.values())


def share_rows(curves: Curves, kept: Mapping[str, int]) -> list[dict[str, Any]]:
    """Give a row for each expert, block and modality of the weights that a stage keeps.

    On the tuning split; of a stage without tuning rows, over its last steps of training. Beside the
    share ``mutual_information`` and ``effective`` of block and modality, None if not recorded.

    Args:
        curves: Stage to lines of the record.
        kept: Stage to the step whose weights it keeps; the last tuning line if not known.
    """
    rows = []
    for stage, lines in curves.items():
        # of the step whose weights are kept, of tuning if there is one; else the last
        step = kept.get(stage)
        told = [line for line in lines if any(_parts(key)[0] == "share" for key in line)]
        tuning = [line for line in told if line.get("split") == "tuning"]
        exact = [line for line in tuning if line.get("step") == step]
        line = next(iter([*exact[-1:], *tuning[-1:], *told[-1:]]), {})
        for key, shares in line.items():
            measure, modality, block = _parts(key)
            if measure == "share":
                about = {"stage": stage, "split": line.get("split", "train"),
                         "step": line.get("step", 0), "modality": modality,
                         "block": block}  # fmt: skip
                for other in ("mutual_information", "effective"):
                    about[other] = line.get(f"experts/{other}/{modality}/{block}")
                rows += [{**about, "expert": e, "share": share} for e, share in enumerate(shares)]
    return rows


def _parts(key: str) -> tuple[str, str, int]:
    """Measure, modality and block of ``experts/MEASURE/MODALITY/BLOCK``; blanks of other keys."""
    first, _, rest = key.partition("/")
    measure, _, place = rest.partition("/")
    modality, _, block = place.rpartition("/")
    is_one = first == "experts" and bool(modality) and block.isdigit()
    return (measure, modality, int(block)) if is_one else ("", "", 0)


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
    said = f"Below {LITTLE:.0%} of its ceiling for every modality: "
    even = [evenness(row, experts) for row in rows]
    if all(one is not None and one > EVEN for one in even):
        return f"{said}{MEANS_LITTLE}."
    return f"{said}the tokens of a modality have nearly the same gates, whatever they show."
