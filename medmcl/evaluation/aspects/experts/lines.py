"""Numbers on routers, read from the lines that training wrote."""

from __future__ import annotations

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
        line = _kept_line(lines, kept.get(stage))
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


def _kept_line(lines: Sequence[Mapping[str, Any]], step: int | None) -> Mapping[str, Any]:
    told = [line for line in lines if any(_parts(key)[0] == "share" for key in line)]
    tuning = [line for line in told if line.get("split") == "tuning"]
    exact = [line for line in tuning if line.get("step") == step]
    return next(iter([*exact[-1:], *tuning[-1:], *told[-1:]]), {})


def _parts(key: str) -> tuple[str, str, int]:
    """Measure, modality and block of ``experts/MEASURE/MODALITY/BLOCK``; blanks of other keys."""
    first, _, rest = key.partition("/")
    measure, _, place = rest.partition("/")
    modality, _, block = place.rpartition("/")
    is_one = first == "experts" and bool(modality) and block.isdigit()
    return (measure, modality, int(block)) if is_one else ("", "", 0)
