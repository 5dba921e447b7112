"""``medmcl benchmark``: encoders beside each other on the tasks of a suite.

Heavy imports happen inside the command, as in `cli`.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from medmcl.cli.command import DeviceOption, PretrainedOnOption, called, fractions_of, set_option


def benchmark(
    suite: Annotated[
        str | None,
        typer.Argument(help="A suite that ships (ptbxl), or a yaml file; lists them if not given."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for leaderboard and page; embeddings are kept there, too."),
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            metavar="[LABEL=]NAME[:VARIANT]:FILE",
            help="A published model (`medmcl models`) with its file of weights. Repeatable.",
        ),
    ] = None,
    runs: Annotated[
        list[Path] | None, typer.Option("--run", help="A run folder. Repeatable.")
    ] = None,
    embeddings: Annotated[
        list[str] | None,
        typer.Option(
            "--embeddings",
            metavar="[NAME=]FILE",
            help="Vectors made elsewhere, by record (.parquet, .csv, .tsv, .npz). Repeatable.",
        ),
    ] = None,
    random: Annotated[
        list[str] | None,
        typer.Option(
            "--random",
            metavar="NAME[:VARIANT]",
            help="A published architecture with first weights; that of each --model and --run is "
            "there in any case. Repeatable.",
        ),
    ] = None,
    cohort: Annotated[
        str | None,
        typer.Option("--cohort", help="Another cohort of the same tables than the suite's."),
    ] = None,
    modality: Annotated[
        str | None,
        typer.Option(
            "--modality", help="What encoders read of the cohort; that of the suite if not given."
        ),
    ] = None,
    data_root: Annotated[
        Path | None,
        typer.Option("--data-root", help="Folder that the paths of records start from."),
    ] = None,
    tasks: Annotated[
        list[str] | None,
        typer.Option("--task", help="Task of the suite; all if not given. Repeatable."),
    ] = None,
    sites: Annotated[
        list[str] | None,
        typer.Option(
            "--site",
            help="Site that is scored, of a suite that holds sites out in turn; each if not given. "
            "Repeatable.",
        ),
    ] = None,
    protocols: Annotated[
        list[str] | None,
        typer.Option(
            "--protocol", help="linear_probe or knn; those of the suite if not given. Repeatable."
        ),
    ] = None,
    label_fraction: Annotated[
        str | None,
        typer.Option(help="Shares of the train labels: 0.01,0.1,1; of the suite if not given."),
    ] = None,
    disturbed: Annotated[
        bool,
        typer.Option(
            "--disturbed",
            help="Also score held-out records with leads left out, noise, fewer samples, wander.",
        ),
    ] = False,
    scratch: Annotated[
        bool, typer.Option("--scratch", help="Also train the suite's plain network for each task.")
    ] = False,
    finetune: Annotated[
        bool,
        typer.Option("--finetune", help="Also fine-tune each --model and --run for each task."),
    ] = False,
    pretrained_on: PretrainedOnOption = None,
    allow_overlap: Annotated[
        bool,
        typer.Option(
            "--allow-overlap",
            help="Score models that may have been trained on who is scored; every row says so.",
        ),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Write over the leaderboard that --out holds.")
    ] = False,
    round_to: Annotated[
        int | None,
        typer.Option(min=5, help="Round all counts of the leaderboard to multiples of this."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        set_option("a value of the cohort"),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of label subsets and bootstrap.")] = 0,
    device: DeviceOption = "auto",
) -> None:
    """Compare published models, runs and vectors on a suite, beside simple baselines."""
    given = {**locals()}
    from medmcl.core.errors import ConfigError
    from medmcl.core.overrides import parse_overrides
    from medmcl.stages.benchmark.suite import list_suites, read_suite

    if suite is None:
        for name in list_suites():
            print(f"{name}: {read_suite(name)[1].about}")
        return
    if out is None:
        raise ConfigError("where the leaderboard is written is not said", fix="--out FOLDER")
    from medmcl.stages.benchmark.benchmark import Benchmark

    overrides = parse_overrides(set_ or ())
    if data_root is not None:
        overrides["data_root"] = str(data_root)
    rows = called(
        Benchmark, given, ("label_fraction", "data_root", "set_"),
        label_fractions=fractions_of(label_fraction) or (), overrides=overrides,
        command=shlex.join(["medmcl", *sys.argv[1:]]),
    ).run()  # fmt: skip
    for mark in dict.fromkeys(f"{row.name}: {row.mark}" for row in rows if row.mark):
        print(f"mind {mark}")
    print(f"{len(rows):,} rows: {out / 'leaderboard.csv'}\npage: {out / 'leaderboard.md'}")
