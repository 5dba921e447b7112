"""Modalities: from a record on disk to the tensor an encoder reads, one adapter a kind.

``ADAPTERS`` names the adapter of each kind. An adapter is imported when it is looked up, and
imports torch when rows become its input: what a cohort or a recipe says is checked without.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast, get_args

from medmcl.core.contracts import traits
from medmcl.core.lazy import Parts

if TYPE_CHECKING:
    from medmcl.core.config import Config


def _keeps_contract(name: str, adapter: Any, package: str) -> None:
    from medmcl.modalities.outside import keeps_contract

    keeps_contract(name, adapter, package)


_CLASSES = {
    "ecg": "ECG",
    "cmr": "CMR",
    "image": "Image",
    "tabular": "Tabular",
    "text": "Text",
    "codes": "Codes",
    "graph": "Graph",
    "genetics": "Genetics",
}
"""The adapter of each kind, which lies in ``KIND/adapter.py``; its settings in ``KIND/settings.py``
are called after it."""

ADAPTERS = Parts(
    {
        kind: (f"{__name__}.{kind}.adapter:{name}", f"{__name__}.{kind}.settings:{name}Settings")
        for kind, name in _CLASSES.items()
    },
    group="medmcl.modalities",
    keeps=_keeps_contract,
)


def augment_settings(kind: str) -> type[Config]:
    """Give ``Augment`` of a kind, what a view may say of it; one that ships loads no adapter."""
    if kind not in _CLASSES:
        return cast("type[Config]", ADAPTERS[kind].Augment)
    settings = import_module(f"{__name__}.{kind}.settings")
    return cast("type[Config]", getattr(settings, f"{_CLASSES[kind]}Augment"))


_READERS: dict[str, tuple[str, ...]] = {
    "wfdb": ("ecg",),
    "muse_xml": ("ecg",),
    "ukb_xml": ("ecg",),
    "aecg": ("ecg",),
    "edf": ("ecg",),
    "hdf5": ("ecg",),
    "zarr": ("ecg",),
    "dicom": ("ecg", "image", "cmr"),
    "parquet": ("ecg",),
    "ecg": ("ecg",),
    "nifti": ("cmr", "image"),
    "image": ("image",),
    "table": ("tabular",),
    "text": ("text",),
    "events": ("codes",),
    "meds": ("codes",),
    "connectivity": ("graph",),
    "timeseries": ("graph",),
    "edge_list": ("graph",),
    "plink": ("genetics",),
    "pgen": ("genetics",),
    "dosages": ("genetics",),
}


@cache
def readers() -> Mapping[str, tuple[str, ...]]:
    """Give each reader with the kinds of modality that it reads: the first if none is stated.

    Readers of an adapter from outside are those that its ``Source`` may say. ``npy`` implies no
    kind, so that a cohort which uses it states ``kind:``.
    """
    found = dict(_READERS)
    for kind in ADAPTERS.outside:
        for reader in get_args(ADAPTERS[kind].Source.model_fields["reader"].annotation):
            if reader != "npy":
                found[reader] = (*found.get(reader, ()), kind)
    return found


def tables() -> list[str]:
    """Kinds whose records are rows of a table; see `Traits.tabular`."""
    return [kind for kind in ADAPTERS if traits(ADAPTERS[kind]).tabular]


def packed_readers() -> list[str]:
    """Readers whose records can lie in shards; see `Traits.packed`."""
    return sorted({one for kind in ADAPTERS for one in traits(ADAPTERS[kind]).packed})


def kind_of(section: Mapping[str, Any]) -> Any:
    """Give the kind that a modality of a cohort.yaml states, or that its reader implies."""
    return section.get("kind") or next(iter(readers().get(str(section.get("reader")), ())), None)
