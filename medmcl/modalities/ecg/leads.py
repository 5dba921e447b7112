"""Names of ECG leads as found in the wild, and what the limb leads owe one another.

Six limb leads come from two differences of potential, so any two of them give the other four:
I + III = II, aVR = -(I + II) / 2, aVL = I - II / 2, aVF = II - I / 2.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

LIMB = ("I", "II", "III", "aVR", "aVL", "aVF")
PRECORDIAL = ("V1", "V2", "V3", "V4", "V5", "V6")
TWELVE = LIMB + PRECORDIAL
GROUPS = (LIMB[:3], LIMB[3:], PRECORDIAL)
"""Leads that share one mean and one variance."""
LIMB_ROWS = ((1.0, 0.0), (0.0, 1.0), (-1.0, 1.0), (-0.5, -0.5), (1.0, -0.5), (-0.5, 1.0))
"""Each limb lead as a combination of I and II, (6, 2)."""

_OTHERS = ("V3R", "V4R", "V5R", "V6R", "V7", "V8", "V9")
_FRANK = {"VX": "X", "VY": "Y", "VZ": "Z", "X": "X", "Y": "Y", "Z": "Z"}
_KNOWN = {
    **{name.upper(): name for name in TWELVE + _OTHERS},
    **{f"C{name[1:]}": name for name in PRECORDIAL},
    **{f"D{name}": name for name in LIMB[:3]},
    **{f"D{number}": name for number, name in enumerate(LIMB[:3], start=1)},
    **{name[1:].upper(): name for name in LIMB[3:]},
    **_FRANK,
}
_PREFIX = re.compile(
    r"^(MDC_?ECG_?LEAD|MDC_?ECG_?ELEC_?POTL|LEADS?|ECG|EKG|CHANNEL"
    r"|EINTHOVEN|GOLDBERGER|WILSON|FRANK)"
)
_SIGN = re.compile(r"^\s*([+-])|(?<=[\s_:])([+-])(?=[A-Z])", re.IGNORECASE)
_DASHES = str.maketrans("\u2212\u2013\u2010\u2011", "----")
_UNCLEAR = re.compile(
    r"[+-][\s)\]]*$|(\b|_)(inv|rev|neg|minus|flip)|neg\b|I[\s.+-]+I", re.IGNORECASE
)
"""Names that may mean a reversed lead, or the difference of two: not read as a lead."""


@lru_cache(maxsize=4096)
def canonical(name: str) -> tuple[str, int]:
    """Give the usual spelling of a lead's name, and -1 if the name says that it is reversed.

    ``MDC_ECG_LEAD_AVR``, ``MDC_ECG_ELEC_POTL_AVR``, ``Lead aVR``, ``avr (uV)``, ``+aVR``, ``VR``
    are aVR; ``-aVR`` and ``Lead -aVR`` are aVR reversed; ``DII`` is II; ``C1`` is V1; ``vx`` is
    Frank's X. A name that is not known, or not clear (``aVR-``, ``aVR inverted``, ``I-II``), comes
    back as it is.
    """
    dashed = name.translate(_DASHES)
    if _UNCLEAR.search(dashed):
        return name.strip(), 1
    plain = re.sub(r"\(.*?\)|\[.*?\]", "", dashed).strip()
    said = _SIGN.search(plain)
    sign = -1 if said and "-" in said[0] else 1
    if said:
        plain = plain[: said.start()] + plain[said.end() :]
    key = re.sub(r"[\s\-.]+", "", plain).upper()
    while (cut := _PREFIX.sub("", key).lstrip("_:")) not in ("", key):
        key = cut
    key = key.replace("_", "")
    return (_KNOWN[key], sign) if key in _KNOWN else (name.strip(), 1)


def is_known(name: str) -> bool:
    """Whether a name is a lead of an ECG (12-lead, right-sided, posterior or Frank)."""
    return canonical(name)[0] in _KNOWN.values()


def sources(lead: str, available: Sequence[str]) -> tuple[str, ...]:
    """Leads that ``lead`` is taken from: itself, two limb leads, or none if it cannot be had."""
    if lead in available:
        return (lead,)
    limb = tuple(name for name in LIMB if name in available)
    return limb[:2] if lead in LIMB and len(limb) >= 2 else ()


def take_lead(lead: str, available: Sequence[str], signal: np.ndarray) -> np.ndarray:
    """Read or derive one lead.

    Args:
        lead: A canonical name for which `sources` is not empty.
        available: Canonical names of the rows of ``signal``.
        signal: (L, S).

    Returns:
        (S,), of the type of ``signal``.
    """
    names = sources(lead, available)
    rows = [signal[list(available).index(name)] for name in names]
    if len(rows) == 1:
        return rows[0]
    import numpy as np

    pair = np.array([LIMB_ROWS[LIMB.index(name)] for name in names])
    weights = np.linalg.solve(pair.T, LIMB_ROWS[LIMB.index(lead)])
    derived = weights[0] * rows[0] + weights[1] * rows[1]
    return np.asarray(derived, dtype=signal.dtype)
