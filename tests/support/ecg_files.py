"""Writers of ECG files: MUSE and UK Biobank XML, and DICOM waveforms."""

import base64
from pathlib import Path

import numpy as np

EIGHT = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
STEP_UV = 4.88


def muse_lead(name: str, samples: np.ndarray, units: str = "MICROVOLTS") -> str:
    coded = base64.b64encode(samples.astype("<i2").tobytes()).decode()
    coded = "\n".join(coded[start : start + 76] for start in range(0, len(coded), 76))
    return (
        f"<LeadData><LeadSampleCountTotal>{len(samples)}</LeadSampleCountTotal>"
        f"<LeadAmplitudeUnitsPerBit>{STEP_UV}</LeadAmplitudeUnitsPerBit>"
        f"<LeadAmplitudeUnits>{units}</LeadAmplitudeUnits><LeadSampleSize>2</LeadSampleSize>"
        f"<LeadID>{name}</LeadID><WaveFormData>\n{coded}\n</WaveFormData></LeadData>"
    )


def muse_waveform(kind: str, leads: dict[str, np.ndarray], rate: int = 500) -> str:
    data = "".join(muse_lead(name, samples) for name, samples in leads.items())
    return (
        f"<Waveform><WaveformType>{kind}</WaveformType><SampleBase>{rate}</SampleBase>"
        f"<SampleExponent>0</SampleExponent>{data}</Waveform>"
    )


def write_muse(path: Path, *waveforms: str) -> Path:
    head = '<?xml version="1.0" encoding="ISO-8859-1"?>\n'
    head += '<!DOCTYPE RestingECG SYSTEM "restecg.dtd">\n'
    path.write_text(f"{head}<RestingECG>{''.join(waveforms)}</RestingECG>", encoding="latin-1")
    return path


def ukb_waves(table: dict[str, np.ndarray]) -> str:
    return "".join(
        f'<WaveformData lead="{name}">{",".join(map(str, row))}</WaveformData>'
        for name, row in table.items()
    )


def write_ukb(path: Path, strip: str, extra: str = "", samples: int = 120) -> Path:
    path.write_text(
        "<CardiologyXML><RestingECGMeasurements><MedianSamples>"
        '<SampleRate units="Hz">500</SampleRate><Resolution units="uVperLsb">5</Resolution>'
        '<WaveformData lead="I">1,1,1</WaveformData></MedianSamples></RestingECGMeasurements>'
        '<StripData><NumberOfLeads>12</NumberOfLeads><SampleRate units="Hz">500</SampleRate>'
        f"<ChannelSampleCountTotal>{samples}</ChannelSampleCountTotal>"
        f'<Resolution units="uVperLsb">5</Resolution>{strip}</StripData>{extra}</CardiologyXML>'
    )
    return path


def write_dicom(path: Path, table: np.ndarray, leads, median: bool = True) -> Path:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, TwelveLeadECGWaveformStorage, generate_uid

    def group(label: str, values: np.ndarray) -> Dataset:
        item = Dataset()
        item.MultiplexGroupLabel = label
        item.WaveformOriginality = "ORIGINAL"
        item.NumberOfWaveformChannels, item.NumberOfWaveformSamples = values.shape
        item.SamplingFrequency = 500
        item.WaveformBitsAllocated = 16
        item.WaveformSampleInterpretation = "SS"
        item.ChannelDefinitionSequence = []
        for lead in leads:
            channel, source, unit = Dataset(), Dataset(), Dataset()
            source.CodeMeaning = f"Lead {lead}"
            unit.CodeValue, unit.CodeMeaning = "uV", "microvolt"
            channel.ChannelSourceSequence = [source]
            channel.ChannelSensitivity = "4.88"
            channel.ChannelSensitivityUnitsSequence = [unit]
            channel.ChannelSensitivityCorrectionFactor = "1"
            channel.ChannelBaseline = "0"
            item.ChannelDefinitionSequence.append(channel)
        item.WaveformData = values.T.astype("<i2").tobytes()
        return item

    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = TwelveLeadECGWaveformStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.SOPClassUID = TwelveLeadECGWaveformStorage
    dataset.Modality = "ECG"
    groups = [group("MEDIAN BEAT", np.ones((len(leads), 900), int))] if median else []
    dataset.WaveformSequence = [*groups, group("RHYTHM", table)]
    dataset.save_as(path, enforce_file_format=True)
    return path
