"""Opening a DICOM file, of waveforms or of an image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medmcl.core.errors import RecordError
from medmcl.core.limits import refuse_large

_ITEM, _PER_ITEM = b"\xfe\xff\x00\xe0", 2_000
"""How an item of a sequence begins, and memory that it takes, about."""
_DEFLATED = "1.2.840.10008.1.2.1.99"


def open_dicom(path: Path) -> Any:
    """Give the data set of a file.

    Raises:
        RecordError: It is deflated, or holds more items than memory: such a file may claim it all.
    """
    from pydicom import dcmread
    from pydicom.filereader import read_file_meta_info

    if str(read_file_meta_info(path).get("TransferSyntaxUID", "")) == _DEFLATED:
        raise RecordError("is deflated DICOM, which is not read", where=path)
    items = path.read_bytes().count(_ITEM)
    refuse_large(items * _PER_ITEM, path, f"its {items:,} items")
    return dcmread(path)
