"""How much routers decide, in words: information against its ceiling, gates against even ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from medmcl.evaluation.report.pictures import number

LITTLE = 0.05
"""Information below this share of log E says little."""
EVEN = 0.9
"""Mean entropy of a token's gates above this share of log E: the gates are nearly even."""
NEAR = 1.25
"""A mean gate below this many times 1/E is hardly above an even one: whatever the other gates are,
the information is then below log 1.25 / log E."""
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


def against_even(what: str, gate: float, experts: int) -> str:
    """Set a mean gate beside that of a router that cannot decide."""
    said = f"{what} is {number(gate)}; even gates are {number(1 / experts)}"
    # below 1/E it was no first choice: experts chose, or a bias did
    is_even = experts > 1 and 0.99 / experts < gate < NEAR / experts
    return f"{said}. So {MEANS_LITTLE}." if is_even else f"{said}."
