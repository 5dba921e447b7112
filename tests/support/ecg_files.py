"""Writers of ECG files: MUSE, UK Biobank and HL7 XML, EDF, and DICOM waveforms."""

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


def aecg_set(table: dict[str, np.ndarray], rate: float = 500, scale: float = 5.0) -> str:
    """A sequence set of HL7 aECG: leads as digits, in steps of microvolts above an origin of 0."""
    wave = "".join(
        f'<component><sequence><code code="MDC_ECG_LEAD_{name.upper()}"/>'
        '<value xsi:type="SLIST_PQ"><origin value="0" unit="uV"/>'
        f'<scale value="{scale}" unit="uV"/>'
        f"<digits>{' '.join(map(str, row))}</digits></value></sequence></component>"
        for name, row in table.items()
    )
    return (
        '<component><sequenceSet><component><sequence><code code="TIME_ABSOLUTE"/>'
        '<value xsi:type="GLIST_TS"><head value="20200101120000"/>'
        f'<increment value="{1 / rate}" unit="s"/></value></sequence></component>{wave}'
        "</sequenceSet></component>"
    )


def write_aecg(path: Path, *sets: str, derived: str = "") -> Path:
    """Write one series of HL7 aECG; ``derived``: sequence sets of its representative beats."""
    beats = f"<derivation><derivedSeries>{derived}</derivedSeries></derivation>" if derived else ""
    path.write_text(
        '<?xml version="1.0" encoding="UTF-8"?><AnnotatedECG xmlns="urn:hl7-org:v3" '
        'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><component><series>'
        f'<code code="RHYTHM"/>{"".join(sets)}{beats}</series></component></AnnotatedECG>'
    )
    return path


def write_edf(
    path: Path, signals: dict[str, np.ndarray], rate: int = 100, unit: str = "uV",
    step: float = 5.0, per_record: dict[str, int] | None = None, reserved: str = "",
) -> Path:  # fmt: skip
    """Write records of a second; values are steps, their unit is that of the header."""
    samples = {name: (per_record or {}).get(name, rate) for name in signals}
    blocks = min(len(row) // samples[name] for name, row in signals.items())
    count = len(signals)
    head = f"{'0':<8}{'X X X X':<80}{'Startdate X':<80}01.01.2012.00.00"
    head += f"{256 * (count + 1):<8}{reserved:<44}{blocks:<8}{1:<8}{count:<4}"
    limits = (-32768 * step, 32767 * step, -32768, 32767)
    columns = [(16, list(signals)), (80, [""] * count), (8, [unit] * count)]
    columns += [(8, [f"{limit:g}"[:8]] * count) for limit in limits]
    columns += [(80, [""] * count), (8, list(samples.values())), (32, [""] * count)]
    head += "".join(f"{value:<{width}}" for width, values in columns for value in values)
    body = [
        row[block * samples[name] : (block + 1) * samples[name]].astype("<i2").tobytes()
        for block in range(blocks) for name, row in signals.items()
    ]  # fmt: skip
    path.write_bytes(head.encode("latin-1") + b"".join(body))
    return path


def write_dicom(path: Path, table: np.ndarray, leads, median: bool = True, groups=None) -> Path:
    """``groups``: (label, leads, values (L, S), rate) of several, in place of one."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, TwelveLeadECGWaveformStorage, generate_uid

    def group(label: str, leads, values: np.ndarray, rate: float = 500) -> Dataset:
        item = Dataset()
        item.MultiplexGroupLabel = label
        item.WaveformOriginality = "ORIGINAL"
        item.NumberOfWaveformChannels, item.NumberOfWaveformSamples = values.shape
        item.SamplingFrequency = rate
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
    beats = [("MEDIAN BEAT", leads, np.ones((len(leads), 900), int))] if median else []
    dataset.WaveformSequence = [group(*one) for one in groups or (*beats, ("RHYTHM", leads, table))]
    dataset.save_as(path, enforce_file_format=True)
    return path
