"""A cohort as if its records were prepared: rehearsals need shapes, not what was seen."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

import numpy as np

from medmcl.data.cohort.cohort import Cohort
from medmcl.data.loading.cache import Stored
from medmcl.data.loading.prepare import Prepared, build_adapters, in_order, train_places
from medmcl.data.loading.reading import fit, good_raws, good_records, of_this, prepared_row

FITTED_ON = 200
"""So many records of the train split, evenly spaced, an adapter is fitted on."""


def stand_in(cohort: Cohort, inputs: Mapping[str, Mapping[str, Any]]) -> Prepared | None:
    """Fit adapters on a few records, and let one of each modality stand for all its records.

    Args:
        cohort: The cohort.
        inputs: Modality to how its adapter prepares it.

    Returns:
        What `prepare` would give, if no record had a fault; None if a modality has no record that
        can be prepared.

    Raises:
        MedmclError: The settings do not fit the records.
    """
    adapters = build_adapters(cohort, inputs)
    stored, partly = {}, set()
    for name, adapter in adapters.items():
        places, count = train_places(cohort, name), len(cohort.records[name])
        if len(places) > FITTED_ON:
            partly.add(name)
            places = [places[int(row)] for row in np.linspace(0, len(places) - 1, FITTED_ON)]
        fit(adapter, good_raws(adapter, places), name)
        with of_this(name):
            first = islice(good_records(adapter, places), 1)
            rows = [prepared_row(adapter, raw, place) for place, raw in first]
        if not rows:
            return None
        stored[name] = Stored(
            rows=np.broadcast_to(rows[0], (count, *rows[0].shape)),
            usable=np.ones(count, dtype=bool),
            digests=np.arange(count).astype(f"S{len(str(count))}"),
            findings={},
        )
    return in_order(cohort, adapters, stored, partly=frozenset(partly))
