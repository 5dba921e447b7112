"""``medmcl predict``: a prediction for each person of a cohort, or for one, from single files.

Heavy imports happen inside the command, as in `cli`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from medmcl.cli.command import (
    DeviceOption,
    OverwriteOption,
    WorkersOption,
    begun,
    end_wrecked,
    set_option,
)
from medmcl.core.file_lock import one_writer

RecordOption = Annotated[
    list[str] | None,
    typer.Option(
        "--record",
        metavar="MODALITY=FILE",
        help="Instead of --cohort: a file of one person (ecg=a.hea, cmr=b.nii.gz, clinic=c.csv of "
        "one row). Repeatable.",
    ),
]
ValueOption = Annotated[
    list[str] | None,
    typer.Option(
        "--value",
        metavar="COLUMN=VALUE",
        help="Beside --record, or alone: a cell of a table (age=63). Repeatable.",
    ),
]


@one_writer("predictions are being written")
def predict(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    cohort: Annotated[
        str | None,
        typer.Option(
            "--cohort",
            help="Cohort: folder, cohort.yaml, or a name under cohorts/. Its outcomes and splits "
            "are not read.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Table to write (.parquet, .csv or .tsv); must be new. Needed with --cohort; one "
            "person is shown in any case. Survival curves go beside it, as NAME.curves.*."
        ),
    ] = None,
    record: RecordOption = None,
    value: ValueOption = None,
    task: Annotated[
        list[str] | None,
        typer.Option("--task", help="Task to predict; all if not given. Repeatable."),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="Method by its name in the run's results (a probe, a baseline, a fine-tuned "
            "model), as it was kept; the first of the evaluate stage if not given."
        ),
    ] = None,
    schema: Annotated[
        Literal["medmcl", "meds"],
        typer.Option(
            help="meds: the table of --out as MEDS-DEV scores it (.parquet; one binary task, the "
            "people that the run did not learn from, their outcomes beside)."
        ),
    ] = "medmcl",
    overwrite: OverwriteOption = False,
    set_: Annotated[
        list[str] | None,
        set_option("a value of the cohort (data_root=/path, cohort.modalities.ecg.units=uV)"),
    ] = None,
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
) -> None:
    """Predict each person of a cohort, or one from single files; no outcome is needed."""
    from medmcl.core.overrides import parse_overrides

    is_one = bool(record or value)
    curves = _refuse_places(
        cohort, out, parse_overrides(set_ or ()), is_one=is_one, overwrite=overwrite
    )
    records = {name: Path(text) for name, text in _pairs("--record", record, "ecg=FILE").items()}
    values = _pairs("--value", value, "age=63")
    about: dict[str, Any] = {"tasks": task or None, "method": method, "device": device}
    with begun(set_, cohort, runs=(run,), workers=workers, reads_recipe=False) as about[
        "overrides"
    ]:
        from medmcl.stages.predict.predict import predict_people, predict_person
        from medmcl.stages.run.run import load

        opened = load(run)
        if schema == "meds":
            about["tasks"] = [_meds_task(opened, cohort, out, task)]
        wrecked = opened.wrecked  # before anything is written
        if cohort is not None:
            found = predict_people(opened, cohort, **about)
        else:
            found = predict_person(opened, records, values, **about)
    if not found.table["predicted"].notna().any():
        _refuse_nobody(found, cohort, run)
    for line in (*found.notes, *found.sentences):
        print(line)
    if is_one:
        print(_shown(found.table))
    if out is not None and cohort is not None and schema == "meds":
        _write_meds(opened, cohort, found.table, about, out)
    elif out is not None:
        _write(found, out, curves)
    end_wrecked(wrecked)


def _meds_task(run: Any, cohort: str | None, out: Path | None, tasks: list[str] | None) -> str:
    """The task of a file of MEDS predictions; refuses what cannot be one."""
    from medmcl.core.errors import ConfigError
    from medmcl.stages.predict.meds_rows import one_binary_task

    if cohort is None or out is None or out.suffix.lower() != ".parquet":
        raise ConfigError(
            "MEDS predictions are a parquet file about a cohort",
            where="--schema meds",
            fix="--cohort COHORT --out predictions.parquet",
        )
    return one_binary_task(run, tasks)


def _write_meds(run: Any, cohort: str, table: Any, about: dict[str, Any], out: Path) -> None:
    """Write predictions as MEDS has them, and say who is not among them."""
    from medmcl.stages.predict.meds_rows import meds_rows, write_meds
    from medmcl.stages.predict.people import WARNING

    rows, notes = meds_rows(run, cohort, table, about["tasks"][0], about["overrides"])
    for line in notes:
        print(line)
    write_meds(rows, out)
    print(f"predictions: {out}, {len(rows):,} rows in the schema of MEDS\nnote: {WARNING}")


def _refuse_places(
    cohort: str | None,
    out: Path | None,
    overrides: dict[str, Any],
    *,
    is_one: bool,
    overwrite: bool,
) -> Path | None:
    """Refuse a command line that names nobody, or no place to write; give that of curves."""
    from medmcl.core.errors import ConfigError
    from medmcl.stages.run.outputs import claim_table, refuse_input

    if is_one == (cohort is not None):
        raise ConfigError(
            "people are given twice" if is_one else "nobody is given to predict",
            where="medmcl predict",
            expected="--cohort COHORT, or --record MODALITY=FILE (and --value COLUMN=VALUE)",
        )
    if out is None:
        if is_one:
            return None
        raise ConfigError(
            "it is not said where to write",
            where="medmcl predict",
            fix="--out predictions.parquet",
        )
    curves = out.with_name(f"{out.stem}.curves{out.suffix}")
    for path in (out, curves):
        claim_table(path, overwrite=overwrite)
        if cohort is not None:
            refuse_input(path, cohort, overrides)
    return curves


def _refuse_nobody(found: Any, cohort: str | None, run: Path) -> None:
    """End as an evaluation of nobody does: nothing is written, and every reason is said."""
    from medmcl.core.errors import CohortError

    for line in found.notes:
        print(line)
    raise CohortError(
        "nobody gets a prediction",
        where=cohort,
        got="; ".join(line.strip() for line in found.sentences),
        fix=f"medmcl check --cohort {cohort} --predict {run} says what is at fault; another "
        "--method may read what these people have",
    )


def _write(found: Any, out: Path, curves: Path | None) -> None:
    """Write predictions, and curves where there are any, and say that they are about people."""
    from medmcl.stages.predict.people import WARNING, write_people

    write_people(found.table, out)
    print(f"predictions: {out}")
    if curves is not None and len(found.curves):
        write_people(found.curves, curves)
        print(f"survival curves: {curves}")
    print(f"note: {WARNING}")


def _pairs(option: str, given: list[str] | None, example: str) -> dict[str, str]:
    """Read ``NAME=VALUE``, each name once."""
    from medmcl.core.errors import ConfigError

    found: dict[str, str] = {}
    for text in given or ():
        name, sign, value = text.partition("=")
        if not sign or not name.strip() or not value.strip():
            raise ConfigError("must look like NAME=VALUE", where=option, got=text, expected=example)
        if name.strip() in found:
            raise ConfigError(f"'{name.strip()}' is given twice", where=option, got=text)
        found[name.strip()] = value.strip()
    return found


def _shown(table: Any) -> str:
    """The predictions of one person, as lines."""
    lines = []
    for row in table.to_dict("records"):
        name = row["task"] if row["target"] == row["task"] else f"{row['task']}, {row['target']}"
        years = row["horizon_years"]
        by = "" if years != years else f" by {years:g} year{'' if years == 1 else 's'}"
        unit = f" {row['unit']}" if row["unit"] else ""
        is_there = row["predicted"] == row["predicted"]
        said = f"{row['predicted']:.4g}{unit}" if is_there else row["quality"]
        lines.append(f"  {name}: {row['kind']}{by} {said}  [{row['method']}]")
    first = table.iloc[0]
    if first["quality"] != "ok" and first["predicted"] == first["predicted"]:
        lines.append(f"  do not use it: {first['quality']}")
    if first["outside_of"]:
        lines.append(f"  outside of what the run was trained on: {first['outside_of']}")
    if first["remarks"]:
        lines.append(f"  {first['remarks']}")
    return "\n".join(lines)
