"""Exchanged limb electrodes: mistakes that obey every identity between limb leads.

If the electrodes of the right and the left arm are exchanged, I is upside down and II and III have
changed places; all six limb leads still agree. What is left is that I and II look unlike those of
other hearts, and unlike the chest leads: a conditional logit over what I and II truly are, as in
`chest`. It also tells I or II upside down where no third limb lead would.

Source: McFadden 1974, conditional logit; weights fitted by ``benchmarks/ecg/ecg_electrodes.py`` on
folds 1 to 8 of a subset of PTB-XL (Wagner et al. 2020, CC BY 4.0).
"""

from __future__ import annotations

from functools import cache

import numpy as np

from medmcl.modalities.ecg.checks.shapes import LEADS, MEASURES, SUM, THIRD, TURNED, Shapes, learned

WORDS = (
    "nothing",
    "the electrodes of the right and the left arm are exchanged",
    "the electrodes of the right arm and the leg are exchanged",
    "I and II (or the electrodes of the left arm and the leg) are exchanged",
    "the sign of I is reversed",
    "the sign of II is reversed",
)
TRUE = np.array(
    [
        [[1, 0], [0, 1]],
        [[-1, 0], [-1, 1]],
        [[1, -1], [0, -1]],
        [[0, 1], [1, 0]],
        [[-1, 0], [0, 1]],
        [[1, 0], [0, -1]],
    ],
    dtype=float,
)
"""What I and II truly are, from what is called I and II, by mistake, (6, 2, 2)."""
ELECTRODES = 4
"""So many of them obey the identities between limb leads."""


def log_odds(shapes: Shapes) -> np.ndarray:
    """Weigh the mistakes against none: log-odds of each in `WORDS`, (6,); the first is 0."""
    measured = measure(shapes)
    score = np.concatenate([measured, measured**2], axis=1) @ learned("electrodes")["weights"]
    return np.asarray(score - score[0])


def measure(shapes: Shapes) -> np.ndarray:
    """Give what is weighed: I, II and III, and I and II beside the chest leads, fixed each way.

    Returns:
        (6, 50): eight measures of the three leads; likeness of I to II and V1 to V6, in and outside
        QRS complexes; then of II to V1 to V6.
    """
    places, signs = _picked()
    return np.concatenate([shapes.lead.ravel(), shapes.alike.ravel()])[places] * signs


@cache
def _picked() -> tuple[np.ndarray, np.ndarray]:
    """Which numbers of `Shapes`, laid in a row, `measure` gives, and their signs; (6, 50) each."""
    measures, rows, alike = MEASURES, len(LEADS) + 2 + len(TURNED), (2, len(LEADS) + 2)
    numbers = np.arange(1, measures * rows + alike[0] * alike[1] ** 2 + 1)
    lead, like = np.split(numbers, [measures * rows])
    picked = _fix(lead.reshape(measures, rows), like.reshape(alike[0], alike[1], alike[1]))
    return np.abs(picked) - 1, np.sign(picked)


def _fix(lead: np.ndarray, alike: np.ndarray) -> np.ndarray:
    """Lay out `measure` from the fields of `Shapes`."""
    rows, signs = _fixed()
    turned = len(LEADS) + 2 + np.array([TURNED.index(row) for row in rows.ravel()])
    places = np.where(signs > 0, rows, turned.reshape(rows.shape))
    leads = lead[:, places].transpose(1, 0, 2)  # (6, 8, 3)
    alike = alike[:, rows[:, :2]] * signs[:, :2, None]  # (2, 6, 2, 10)
    both = np.take_along_axis(alike[:, :, 0], rows[None, :, 1:2], axis=2) * signs[None, :, 1:2]
    chest = alike[..., 2 : len(LEADS)]
    one = np.concatenate([both, chest[:, :, 0]], axis=2)
    parts = [leads, one.transpose(1, 0, 2), chest[:, :, 1].transpose(1, 0, 2)]
    return np.concatenate([part.reshape(len(TRUE), -1) for part in parts], axis=1)


@cache
def _fixed() -> tuple[np.ndarray, np.ndarray]:
    """Which measured row is I, II and III after fixing each mistake, and its sign, (6, 3) each."""
    measured = np.array([[1, 0], [0, 1], [-1, 1], [1, 1]])
    want = np.concatenate([TRUE, TRUE[:, 1:] - TRUE[:, :1]], axis=1)  # (6, 3, 2)
    same = (want[:, :, None] == measured).all(axis=3)
    opposite = (want[:, :, None] == -measured).all(axis=3)
    rows = np.array([0, 1, THIRD, SUM])[(same | opposite).argmax(axis=2)]
    return rows, np.where(same.any(axis=2), 1, -1)
