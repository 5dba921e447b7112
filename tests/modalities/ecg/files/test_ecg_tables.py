"""ECGs in tables of several layouts."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medmcl.core.contracts import RecordRef
from medmcl.core.errors import RecordError
from medmcl.modalities.ecg.adapter import ECG, ECGSettings, ECGSource
from medmcl.modalities.ecg.leads import TWELVE


def signal(seed: int = 0, samples: int = 50) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(12, samples))


def read(path: Path, row: int | None = None, reader: str = "parquet"):
    source = ECGSource(
        reader=reader, rate_hz=100, units="mV", row=None if row is None else "ecg_row"
    )
    values = {} if row is None else {"ecg_row": row}
    place = RecordRef(subject="s", record="r", paths={"path": path}, values=values)
    return ECG(source, ECGSettings()).read(place)


def lists(*records: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({lead: [list(r[n]) for r in records] for n, lead in enumerate(TWELVE)})


@pytest.mark.parametrize("reader", ["parquet", "ecg"])
def test_one_row_with_a_list_a_lead_is_a_record(tmp_path, reader):
    path = tmp_path / "a.parquet"
    lists(signal()).assign(rhythm="sinus").to_parquet(path)
    record = read(path, reader=reader)
    assert record.leads == TWELVE
    assert record.rate_hz == 100
    np.testing.assert_allclose(record.signal_mv, signal(), rtol=1e-6)


@pytest.mark.parametrize("group", [1, 2, 100])
def test_a_row_of_a_file_for_everybody_is_taken_whatever_the_row_groups(tmp_path, group):
    path = tmp_path / "all.parquet"
    lists(*(signal(seed) for seed in range(5))).to_parquet(path, row_group_size=group)
    for row in (4, 0, 1, 3, 2):
        np.testing.assert_allclose(read(path, row).signal_mv, signal(row), rtol=1e-6)
    with pytest.raises(RecordError, match=r"(?s)no such row.*0 to 4"):
        read(path, 5)
    with pytest.raises(RecordError, match=r"(?s)nobody says which.*row: COLUMN"):
        read(path)


def test_a_file_written_anew_is_read_anew(tmp_path):
    path = tmp_path / "all.parquet"
    for seed in (1, 2):
        lists(signal(seed), signal(3)).assign(note="x" * seed).to_parquet(path)
        np.testing.assert_allclose(read(path, 0).signal_mv, signal(seed), rtol=1e-6)


def test_a_null_in_a_list_is_nan_and_unequal_lists_are_refused(tmp_path):
    frame = lists(signal())
    frame.at[0, "V1"] = [None, *frame.at[0, "V1"][1:]]
    frame.to_parquet(tmp_path / "a.parquet")
    found = read(tmp_path / "a.parquet").signal_mv
    assert np.isnan(found).nonzero() == (np.array([6]), np.array([0]))
    frame.at[0, "V1"] = frame.at[0, "V1"][1:]
    frame.to_parquet(tmp_path / "a.parquet")
    with pytest.raises(RecordError, match="different lengths"):
        read(tmp_path / "a.parquet")
    two = lists(signal(), signal(1))
    two.at[1, "V1"] = None
    two.to_parquet(tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet", 0).signal_mv.shape == (12, 50)
    with pytest.raises(RecordError, match="different lengths"):
        read(tmp_path / "a.parquet", 1)


def long_form(*records: np.ndarray) -> pd.DataFrame:
    parts = [
        pd.DataFrame(record.T, columns=list(TWELVE)).assign(
            record_id=f"r{number}", time=np.arange(record.shape[1]) / 100
        )
        for number, record in enumerate(records)
    ]
    return pd.concat(parts, ignore_index=True)


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_the_long_form_is_read_for_one_record_and_refused_for_several(tmp_path, ending):
    path = tmp_path / f"a.{ending}"

    def write(frame: pd.DataFrame) -> None:
        frame.to_parquet(path) if ending == "parquet" else frame.to_csv(path, index=False)

    write(long_form(signal()))
    np.testing.assert_allclose(read(path).signal_mv, signal(), rtol=1e-6)
    write(long_form(signal(), signal(1)))
    with pytest.raises(RecordError, match=r"(?s)'record_id'.*2 records.*groupby\('record_id'\)"):
        read(path)
    write(long_form(signal(), signal(1)).drop(columns="record_id"))
    with pytest.raises(RecordError, match=r"(?s)'time' runs backwards.*row 50.*file each"):
        read(path)
    write(long_form(signal()))
    with pytest.raises(RecordError, match="no meaning for a row a sample"):
        read(path, 0)


def test_a_lead_and_a_value_column_are_told_how_to_be_laid_out(tmp_path):
    path = tmp_path / "a.csv"
    long_form(signal()).melt(["record_id", "time"], var_name="lead").to_csv(path, index=False)
    with pytest.raises(RecordError, match=r"(?s)no column is named.*list a lead"):
        read(path)


@pytest.mark.parametrize(
    ("column", "unit", "digits"), [("time", 1, 3), ("t", 1, 9), ("ms", 1e3, 0)]
)
@pytest.mark.parametrize("rate", [100, 360, 500])
def test_times_in_a_table_say_the_rate(tmp_path, column, unit, digits, rate):
    times = (np.arange(300) / rate * unit).round(digits)
    frame = pd.DataFrame(signal(samples=300).T, columns=TWELVE)
    frame.assign(**{column: times}).to_csv(tmp_path / "a.csv", index=False)
    record = read(tmp_path / "a.csv")
    assert record.rate_hz == record.header_rate_hz == pytest.approx(rate, rel=2e-3)
    assert record.rate_hz % 1 == 0 or rate == 360
    frame.assign(time=np.arange(300)).to_csv(tmp_path / "a.csv", index=False)
    assert read(tmp_path / "a.csv").header_rate_hz is None  # counted samples, or milliseconds


def test_the_rate_is_that_of_samples_beside_each_other_and_a_pause_is_refused(tmp_path):
    frame = pd.DataFrame(signal(samples=300).T, columns=TWELVE).assign(time=np.arange(300) / 100)
    frame.drop(index=range(50, 52)).to_csv(tmp_path / "a.csv", index=False)
    record = read(tmp_path / "a.csv")
    assert record.rate_hz == 100
    assert "not even" in record.quality[0]
    coarse = frame.assign(time=(np.arange(300) / 250).round(2))
    coarse.to_csv(tmp_path / "a.csv", index=False)
    assert read(tmp_path / "a.csv").rate_hz == pytest.approx(250, rel=0.01)
    frame.drop(index=range(50, 60)).to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(RecordError, match=r"(?s)'time' pauses.*0.1 of 2.99 s.*after row 50"):
        read(tmp_path / "a.csv")


def test_units_in_names_of_columns_are_followed(tmp_path):
    frame = pd.DataFrame(signal().T * 1e3, columns=[f"{lead} (uV)" for lead in TWELVE])
    frame.to_csv(tmp_path / "a.csv", index=False)
    record = read(tmp_path / "a.csv")
    assert record.header_units == "uV"
    np.testing.assert_allclose(record.signal_mv, signal(), rtol=1e-6)


@pytest.mark.parametrize("how", [
    {"sep": ";"}, {"sep": ";", "decimal": ","}, {"sep": "\t"}, {"encoding": "utf-16"},
    {"encoding": "utf-8-sig"},
])  # fmt: skip
def test_tables_as_spreadsheets_write_them(tmp_path, how):
    pd.DataFrame(signal().T, columns=TWELVE).to_csv(tmp_path / "a.csv", index=False, **how)
    np.testing.assert_allclose(read(tmp_path / "a.csv").signal_mv, signal(), rtol=1e-6)


def test_a_packed_table_whose_name_does_not_say_so_is_refused(tmp_path):
    pd.DataFrame(signal().T, columns=TWELVE).to_csv(tmp_path / "a.csv.gz", index=False)
    (tmp_path / "a.csv.gz").rename(tmp_path / "b.csv")
    with pytest.raises(RecordError, match=r"gzip(.|\n)*call it b.csv.gz"):
        read(tmp_path / "b.csv")
