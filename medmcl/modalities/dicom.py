"""Opening a DICOM file, of waveforms or of an image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medmcl.core.errors import RecordError

_DEFLATED = "1.2.840.10008.1.2.1.99"


def open_dicom(path: Path) -> Any:
    """Give the data set of a file.

    Raises:
        RecordError: It is deflated: such a file may claim all memory.
    """
    from pydicom import dcmread
    from pydicom.filereader import read_file_meta_info

    if str(read_file_meta_info(path).get("TransferSyntaxUID", "")) == _DEFLATED:
        raise RecordError("is deflated DICOM, which is not read", where=path)
    return dcmread(path)
