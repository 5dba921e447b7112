"""Modalities: from a record on disk to the tensor an encoder reads, one adapter a kind.

``ADAPTERS`` names the adapter of each kind. ``READERS`` names the kind that a reader implies; the
``npy`` reader implies none, so a cohort that uses it states ``kind:``. ``ALSO`` names what a reader
reads where the cohort states that kind.
"""

from medmcl.core.contracts import Adapter
from medmcl.modalities.cmr import CMR
from medmcl.modalities.codes import Codes
from medmcl.modalities.ecg import ECG
from medmcl.modalities.genetics import Genetics
from medmcl.modalities.graph import Graph
from medmcl.modalities.image import Image
from medmcl.modalities.tabular import Tabular
from medmcl.modalities.text import Text

ADAPTERS: dict[str, type[Adapter]] = {
    "ecg": ECG,
    "cmr": CMR,
    "image": Image,
    "tabular": Tabular,
    "text": Text,
    "codes": Codes,
    "graph": Graph,
    "genetics": Genetics,
}

READERS: dict[str, str] = {
    "wfdb": "ecg",
    "muse_xml": "ecg",
    "ukb_xml": "ecg",
    "dicom": "ecg",
    "parquet": "ecg",
    "ecg": "ecg",
    "nifti": "cmr",
    "image": "image",
    "table": "tabular",
    "text": "text",
    "events": "codes",
    "meds": "codes",
    "connectivity": "graph",
    "timeseries": "graph",
    "edge_list": "graph",
    "plink": "genetics",
    "dosages": "genetics",
}

ALSO: dict[str, tuple[str, ...]] = {"nifti": ("image",), "dicom": ("image",)}
