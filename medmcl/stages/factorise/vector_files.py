"""Vectors that were made elsewhere: whose they are, read from a table or an archive of arrays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medmcl.core.errors import ArtefactError, ConfigError, MedmclError
from medmcl.core.findings import counted
from medmcl.core.limits import refuse_large_arrays, refuse_large_parquet
from medmcl.core.path_suggestions import instead_of
from medmcl.core.plain_text import heading, refuse_unsound_text
from medmcl.data.cohort.loader import ID_COLUMNS
from medmcl.data.tables.files import texts
from medmcl.data.tables.spreadsheet import holds_shielded, unshielded_table
from medmcl.stages.run.folder import VECTORS

if TYPE_CHECKING:
    import pandas as pd

KEYS = ("record", "record_id", "sample", "sample_id")
"""Columns that say which of a subject's records, or samples, a vector is of."""
ABOUT = ("quality", "modalities")
"""Columns of `medmcl embed` that are no numbers of a vector."""
_UNNAMED = ("", "Unnamed: 0", "index", "__index_level_0__")
_SHOWN = 5
_CALLED = ("vectors", "embeddings", "x")
"""What the table of an archive that holds several is called."""
_FEWEST_COUNTED = 10
"""Rows from which a column of rising whole numbers is no chance."""


@dataclass(frozen=True, kw_only=True)
class Vectors:
    """Vectors and whose they are.

    Attributes:
        name: What they are called in results.
        where: What messages call them.
        id_column: What the subjects stand in.
        subjects: Subject of each. (R,) object
        keys: Record or sample of each; None where there is one a subject. (R,) object
        is_sample: Whether ``keys`` are samples, not records.
        values: Finite numbers. (R, E) float64
        columns: What the E are called.
        notes: What was left out, counted.
    """

    name: str
    where: str
    id_column: str
    subjects: np.ndarray
    keys: np.ndarray | None
    is_sample: bool
    values: np.ndarray
    columns: tuple[str, ...]
    notes: tuple[str, ...] = ()


def read_vectors(name: str, path: Path, id_column: str) -> Vectors:
    """Read vectors from a file.

    The subject stands in a column, or level of the index, that is called as the cohort's ids are,
    ``subject``, or as ids usually are; a record or sample in `KEYS`. All other columns are numbers
    of the vector, or one is of arrays that are it, but for ``quality``: rows of which it is not
    ``ok`` are left out.

    Args:
        name: What they are called in results.
        path: One of `VECTORS`.
        id_column: Column of the cohort's subjects table that names the subject.

    Raises:
        ArtefactError: There is no such file, or it cannot be read.
        ConfigError: No column names the subject; ids stand twice; columns that are no numbers;
            cells that are NaN or infinite beside others that are not.
    """
    where = f"embeddings {name}, {path}"
    frame = _with_index_as_columns(_frame_of(path, where), where)
    twice = frame.columns[frame.columns.duplicated()]
    if len(twice):
        raise ConfigError(
            f"two columns are called {twice[0]!r}", where=where, fix="give each a name of its own"
        )
    subject, key = _id_columns(frame, id_column, where)
    subjects = texts(frame[subject])
    keys = None if key is None else texts(frame[key])
    notes = []
    kept = np.array([one is not None for one in subjects], dtype=bool)
    if not kept.all():
        notes.append(f"{counted(int((~kept).sum()), 'row')} without an id left out")
    if "quality" in frame.columns:
        faulty = kept & (frame["quality"].astype(str) != "ok").to_numpy()
        if faulty.any():
            notes.append(f"{counted(int(faulty.sum()), 'row')} of quality other than ok left out")
        kept &= ~faulty
    spare = [
        one for one in frame.columns
        if one not in (subject, key) and (one.lower() in ID_COLUMNS or one in (*_UNNAMED, *KEYS))
    ]  # fmt: skip
    if spare:
        notes.append(f"column {', '.join(map(repr, spare))} left out: it is called as an id")
    named = [c for c in (subject, key, *spare, *ABOUT) if c in frame.columns]
    features = _spread(frame.drop(columns=named), where)
    values = _numbers(features, kept, where)
    counts = [k for k in range(values.shape[1]) if _counts_rows(values[kept, k])]
    if counts and len(counts) < values.shape[1]:
        said = ", ".join(repr(str(features.columns[k])) for k in counts)
        notes.append(f"column {said} left out: it counts the rows")
        features, values = (
            features.drop(columns=features.columns[counts]),
            np.delete(values, counts, 1),
        )
    empty = kept & np.isnan(values).all(axis=1)
    if empty.any():
        notes.append(f"{counted(int(empty.sum()), 'row')} without a number left out")
    kept &= ~empty
    _refuse_gaps(values, kept, subjects, list(map(str, features.columns)), where)
    keys = None if keys is None else keys[kept]
    _refuse_twice(subjects[kept], keys, where)
    return Vectors(
        name=name,
        where=where,
        id_column=str(frame.attrs.get("ids", subject)),
        subjects=subjects[kept],
        keys=keys,
        is_sample=str(key).startswith("sample"),
        values=values[kept],
        columns=tuple(map(str, features.columns)),
        notes=tuple(notes),
    )


def _frame_of(path: Path, where: str) -> pd.DataFrame:
    """Read a file by its suffix; cells of text tables stay text, so that 0012 stays 0012."""
    import pandas as pd

    suffix = "".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix
    suffix = suffix.lower()
    if path.is_dir() or suffix not in VECTORS:
        without = "an .npy file does not say whose its rows are" if suffix == ".npy" else ""
        raise ConfigError(
            "is a folder, not a file of vectors" if path.is_dir() else
            without or "the suffix says no table of vectors that can be read",
            where=where,
            got=suffix or path.name,
            expected=", ".join(VECTORS),
            fix="np.savez(FILE, ids=..., vectors=...) keeps both" if without else
            "write it as parquet: a column `subject`, and a column a number",
        )  # fmt: skip
    if not path.is_file():
        raise ArtefactError(f"there is no such file{instead_of(path)}", where=where)
    try:
        if suffix == ".parquet":
            refuse_large_parquet(path, error=ArtefactError)
            return _plain_texts(pd.read_parquet(path))
        if suffix == ".npz":
            return _of_archive(path, where)
        refuse_unsound_text(path, error=ArtefactError)
        separator = "\t" if suffix.startswith(".tsv") else ","
        _refuse_other_separator(path, separator, where)
        table = pd.read_csv(path, sep=separator, dtype=str)
        return unshielded_table(table) if holds_shielded(path) else table
    except MedmclError:
        raise
    except Exception as error:  # readers raise many kinds
        fix = "np.savez(FILE, ids=np.array(ids, dtype=str), vectors=...)"
        is_object = suffix == ".npz" and "Object arrays" in str(error)
        raise ArtefactError(
            f"cannot be read: {error}", where=where, fix=fix if is_object else None
        ) from None


def _refuse_other_separator(path: Path, separator: str, where: str) -> None:
    """Refuse a text whose heading is parted otherwise: it would be one column, or torn apart."""
    line = heading(path, ArtefactError).decode("utf-8-sig", "replace")
    other = next((one for one in ";\t," if one in line), separator)
    if separator not in line and other != separator:
        names = {";": "semicolons", "\t": "tabs", ",": "commas"}
        raise ConfigError(
            f"its cells are parted by {names[other]}",
            where=where,
            got=line.strip()[:60],
            expected=f"{names[separator]} between the cells of {path.name}",
            fix="call it .tsv" if other == "\t" else
            f"write {names[separator]}, and points in numbers; or parquet",
        )  # fmt: skip


def _plain_texts(frame: pd.DataFrame) -> pd.DataFrame:
    """Read texts out of Arrow here, where bytes that are no UTF-8 are told, and not later."""
    import pandas as pd

    texts_of = [one for one in frame.columns if isinstance(frame.dtypes[one], pd.StringDtype)]
    for level in range(frame.index.nlevels):
        frame.index.get_level_values(level).to_numpy(object)
    return frame.assign(**{str(one): frame[one].to_numpy(object) for one in texts_of})


def _of_archive(path: Path, where: str) -> pd.DataFrame:
    """Read ``ids`` (R,) and ``vectors`` (R, E), perhaps ``records`` (R,), of an .npz archive."""
    import pandas as pd

    refuse_large_arrays(path, "table", ArtefactError)
    with np.load(path, allow_pickle=False) as archive:
        names = list(archive.files)
        ids = next((one for one in names if one.lower() in ("ids", "subjects", *ID_COLUMNS)), None)
        rows = next((one for one in names if one in ("records", "samples", *KEYS)), None)
        tables = [one for one in names if archive[one].ndim == 2]
        called = [one for one in tables if one.lower() in _CALLED]
        if len(tables) > 1 and len(called) != 1:
            raise ConfigError(
                "the archive holds several tables",
                where=where,
                got=", ".join(tables),
                expected="one, or one that is called `vectors`",
                fix="write each into a file of its own, or bring their rows together",
            )
        vectors = next(iter(called or tables), None)
        if ids is None or vectors is None:
            raise ConfigError(
                "the archive does not hold ids and vectors",
                where=where,
                got=", ".join(names),
                expected="`ids` of one dimension and `vectors` of two",
                fix="np.savez(FILE, ids=..., vectors=...)",
            )
        values, owners = archive[vectors], archive[ids]
        if owners.shape != values.shape[:1]:
            raise ConfigError(
                "ids and vectors are not of one length",
                where=where,
                got=f"{ids} {owners.shape}, {vectors} {values.shape}",
            )
        frame = pd.DataFrame(values, columns=[f"e{k}" for k in range(values.shape[1])])
        frame.insert(0, "subject", owners.astype(str))
        frame.attrs["ids"] = ids
        if rows is not None:
            frame.insert(1, rows.removesuffix("s"), archive[rows].astype(str))
    return frame


def _with_index_as_columns(frame: pd.DataFrame, where: str) -> pd.DataFrame:
    """Make columns of the levels of an index that says something."""
    import pandas as pd

    frame = frame.set_axis([str(one).strip() for one in frame.columns], axis=1)
    index = frame.index
    if isinstance(index, pd.RangeIndex) and index.name is None:
        return frame
    names = [str(one) if one is not None else "index" for one in index.names]
    called = [*names, *frame.columns]
    twice = [one for one in names if called.count(one) > 1]
    if twice:
        raise ConfigError(
            f"'{twice[0]}' is called both a column and the index of its rows",
            where=where,
            fix="name them apart, or write the file without an index; in a text file a row may "
            "have more cells than the heading",
        )
    return frame.reset_index(names=names)


def _id_columns(frame: pd.DataFrame, id_column: str, where: str) -> tuple[str, str | None]:
    """Find the column of subjects, and the one of records or samples if there is one."""
    columns = [str(one) for one in frame.columns]
    usual = [one for one in columns if one.lower() in ID_COLUMNS]
    bare = [one for one in columns[:1] if one in _UNNAMED]
    found = [one for one in (id_column, "subject") if one in columns] or usual or bare
    if not found:
        whole = [one for one in columns if _may_be_ids(frame[one])]
        raise ConfigError(
            "no column says whose the vectors are",
            where=where,
            got=", ".join(columns[:_SHOWN]) + (", …" if len(columns) > _SHOWN else ""),
            expected=f"a column, or an index, called {id_column} or subject",
            fix=f"call it so, if it is '{whole[0]}'" if len(whole) == 1 else
            "name it so; rows alone do not say whose they are",
        )  # fmt: skip
    key = next((one for one in columns if one in KEYS), None)
    return found[0], key


def _may_be_ids(cells: pd.Series) -> bool:
    """Whether cells are texts or whole numbers, each once, without a point."""
    if not len(cells) or not cells.map(type).isin((str, int)).all() or not cells.is_unique:
        return False
    return not cells.astype(str).str.contains(".", regex=False).any()


def _spread(features: pd.DataFrame, where: str) -> pd.DataFrame:
    """Give a column of arrays (E,) as E columns e0 to e(E-1); a table of numbers as it is."""
    import pandas as pd

    arrays = [
        one for one in features.columns if len(features)
        and isinstance(features[one].iloc[0], np.ndarray | list | tuple)
    ]  # fmt: skip
    if arrays and features.shape[1] > 1:
        others = [str(one) for one in features.columns if one != arrays[0]]
        raise ConfigError(
            f"beside '{arrays[0]}', whose cells are arrays, stand other columns",
            where=where,
            got=", ".join(others[:_SHOWN]) + (", …" if len(others) > _SHOWN else ""),
            fix="take them out",
        )
    cells = features.iloc[:, 0] if features.shape[1] == 1 else pd.Series(dtype=object)
    held = cells[[isinstance(one, np.ndarray | list | tuple) for one in cells]]
    lengths = {len(one) for one in held}
    if len(lengths) > 1:
        got = ", ".join(map(str, sorted(lengths)[:_SHOWN]))
        raise ConfigError(f"arrays of '{cells.name}' differ in length", where=where, got=got)
    if len(held) == 0 or lengths == {0} or len(held) + cells.isna().sum() < len(cells):
        return features
    wide = pd.DataFrame([*held], index=held.index).reindex(features.index)
    return wide.set_axis([f"e{k}" for k in range(wide.shape[1])], axis=1)


def _numbers(features: pd.DataFrame, kept: np.ndarray, where: str) -> np.ndarray:
    """Give the columns of a vector as numbers, NaN where a cell is missing. (R, E) float64."""
    import pandas as pd

    if not features.shape[1]:
        raise ConfigError("there is no column of numbers", where=where)
    odd: list[str] = []
    values = np.full(features.shape, np.nan)
    for number, name in enumerate(features.columns):
        column = features[name]
        read = pd.to_numeric(column, errors="coerce")
        strange = (read.isna() & column.notna()).to_numpy(bool) & kept
        if pd.api.types.is_datetime64_any_dtype(column) or strange.any():
            cell = column.to_numpy(object)[strange][0] if strange.any() else column.iloc[0]
            odd.append(f"{name} ({cell!r})")
            continue
        values[:, number] = read.to_numpy(np.float64, na_value=np.nan)
    if odd:
        more = f", … ({len(odd) - _SHOWN} more)" if len(odd) > _SHOWN else ""
        raise ConfigError(
            f"{counted(len(odd), 'column')} of {features.shape[1]} hold what is no number",
            where=where,
            got=", ".join(odd[:_SHOWN]) + more,
            expected="a number in every cell beside the ids; or one column whose cells are arrays",
            fix="take these columns out, or write them as numbers",
        )
    return values


def _counts_rows(column: np.ndarray) -> bool:
    """Whether numbers are those of rows: whole ones in a row, or rising, in 10 rows or more."""
    if len(column) < _FEWEST_COUNTED or not (column == np.floor(column)).all():
        return False
    rises = bool((np.diff(column) > 0).all())
    return rises or (len(np.unique(column)) == len(column) == np.ptp(column) + 1)


def _refuse_gaps(
    values: np.ndarray,
    kept: np.ndarray,
    subjects: np.ndarray,
    columns: Sequence[str],
    where: str,
) -> None:
    """Refuse rows that are vectors but for some cells."""
    bad = kept & ~np.isfinite(values).all(axis=1)
    if not bad.any():
        return
    first = int(np.flatnonzero(bad)[0])
    column = int(np.flatnonzero(~np.isfinite(values[first]))[0])
    raise ConfigError(
        f"{counted(int(bad.sum()), 'row')} of {int(kept.sum())} hold NaN or infinite cells",
        where=where,
        got=f"subject {subjects[first]}, column {columns[column]}: {values[first, column]}",
        expected="finite numbers; a row with no number at all is a subject without a vector",
        fix="leave these rows out, or fill the cells, before they are evaluated",
    )


def _refuse_twice(subjects: np.ndarray, keys: np.ndarray | None, where: str) -> None:
    """Refuse two vectors of one subject, or of one record of a subject."""
    whose = list(zip(subjects, subjects if keys is None else keys, strict=True))
    if len(set(whose)) == len(whose):
        return
    counts = Counter(whose)
    first, times = next((one, n) for one, n in counts.items() if n > 1)
    who = f"subject {first[0]}" + ("" if keys is None else f", record {first[1]}")
    raise ConfigError(
        f"{counted(sum(n > 1 for n in counts.values()), 'id')} with several vectors",
        where=where,
        got=f"{who}: {times} rows",
        expected="one vector a subject, or a column `record` that tells them apart",
        fix="add the column `record` with the ids of the cohort's records, or bring the rows of a "
        "subject together",
    )
