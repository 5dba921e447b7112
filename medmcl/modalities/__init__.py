"""Modalities: from a record on disk to the tensor an encoder reads, one adapter a kind.

``ADAPTERS`` names the adapter of each kind. ``READERS`` names the kind that a reader implies; the
``npy`` reader implies none, so a cohort that uses it states ``kind:``. ``ALSO`` names what a reader
reads where the cohort states that kind. An adapter is imported when it is looked up, and imports
torch when rows become its input: what a cohort or a recipe says of a modality is checked without.
"""

from medmcl.core.lazy import Parts

ADAPTERS = Parts(
    {
        "ecg": ("medmcl.modalities.ecg.adapter:ECG", "medmcl.modalities.ecg.settings:ECGSettings"),
        "cmr": ("medmcl.modalities.cmr.adapter:CMR", "medmcl.modalities.cmr.settings:CMRSettings"),
        "image": (
            "medmcl.modalities.image.adapter:Image",
            "medmcl.modalities.image.settings:ImageSettings",
        ),
        "tabular": (
            "medmcl.modalities.tabular.adapter:Tabular",
            "medmcl.modalities.tabular.settings:TabularSettings",
        ),
        "text": (
            "medmcl.modalities.text.adapter:Text",
            "medmcl.modalities.text.settings:TextSettings",
        ),
        "codes": (
            "medmcl.modalities.codes.adapter:Codes",
            "medmcl.modalities.codes.settings:CodesSettings",
        ),
        "graph": (
            "medmcl.modalities.graph.adapter:Graph",
            "medmcl.modalities.graph.settings:GraphSettings",
        ),
        "genetics": (
            "medmcl.modalities.genetics.adapter:Genetics",
            "medmcl.modalities.genetics.settings:GeneticsSettings",
        ),
    }
)

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
