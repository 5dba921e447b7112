"""The command line. Heavy imports happen inside the commands, so ``--help`` answers at once.

Exit codes: 0 done; 2 the user's mistake (command line, configuration, cohort, artefact);
75 saved on a signal, ``--resume`` goes on; 1 anything else.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="medmcl",
    help="Multimodal contrastive learning on medical cohorts.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

CohortOption = Annotated[
    str, typer.Option("--cohort", help="Cohort: folder, cohort.yaml, or a name under cohorts/.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="A.B=C",
        help="Override a value of the recipe (stages.NAME.epochs=5), or of the cohort "
        "(cohort.on_bad_record=exclude, data_root=/path). Repeatable.",
    ),
]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
SeedOption = Annotated[int, typer.Option("--seed", help="Same seed, same bits on CPU.")]


@app.callback()
def _start(
    quiet: Annotated[bool, typer.Option("--quiet", help="Only warnings and errors.")] = False,
) -> None:
    """Multimodal contrastive learning on medical cohorts."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("medmcl")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.WARNING if quiet else logging.INFO)
    logger.propagate = False


@app.command()
def pretrain(
    cohort: CohortOption,
    recipe: Annotated[
        str | None, typer.Option(help="Recipe: file, or a name that `medmcl recipes` lists.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder to write; must be new.")] = None,
    set_: SetOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    devices: Annotated[int, typer.Option(min=1, help="Processes, one device each.")] = 1,
    precision: Annotated[str, typer.Option(help="auto, fp32 or bf16.")] = "auto",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the unfinished run at --out.")
    ] = False,
) -> None:
    """Train a recipe on a cohort; ends with a run folder and its report.html."""
    from medmcl.core.config import parse_overrides
    from medmcl.stages.launch import relaunch
    from medmcl.stages.pretrain import pretrain as run_pretrain

    if devices > 1 and relaunch(devices):
        return
    run = run_pretrain(
        cohort,
        recipe=recipe,
        out=out,
        overrides=parse_overrides(set_ or ()),
        seed=seed,
        device=device,
        precision=precision,
        resume=resume,
    )
    if run is not None:
        print(f"run:    {run.path}")
        print(f"report: {run.path / 'report.html'}")


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    cohort: CohortOption,
    task: Annotated[
        list[str] | None,
        typer.Option("--task", help="Task to score; all if not given. Repeatable."),
    ] = None,
    label_fraction: Annotated[
        str | None, typer.Option(help="Shares of the train labels, for example 0.01,0.1,1.")
    ] = None,
    compare: Annotated[
        list[Path] | None, typer.Option("--compare", help="Another run to set beside. Repeatable.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for report and results.")] = None,
    set_: SetOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
) -> None:
    """Score a run on the held-out split of a cohort."""
    from medmcl.core.config import parse_overrides
    from medmcl.core.errors import ConfigError
    from medmcl.stages.evaluate import evaluate as run_evaluate

    try:
        fractions = tuple(float(part) for part in (label_fraction or "").split(",") if part)
    except ValueError:
        raise ConfigError(
            "is not a list of numbers", where="--label-fraction", got=label_fraction,
            expected="0.01,0.1,1",
        ) from None  # fmt: skip
    folder = run_evaluate(
        run,
        cohort,
        tasks=task or None,
        label_fractions=fractions or None,
        compare=compare or (),
        out=out,
        overrides=parse_overrides(set_ or ()),
        seed=seed,
        device=device,
    ).folder
    print(f"report: {folder / 'report.html'}")


@app.command()
def embed(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    cohort: CohortOption,
    out: Annotated[Path, typer.Option(help="Parquet file to write.")],
    modality: Annotated[
        str | None, typer.Option(help="Modality to embed; the run's first if not given.")
    ] = None,
    stage: Annotated[str | None, typer.Option(help="Stage whose tower to use.")] = None,
    space: Annotated[
        str, typer.Option(help="features (before the projection) or pooled (shared space).")
    ] = "features",
    set_: SetOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Write the embedding of every record of a cohort, with a quality flag."""
    from medmcl.core.config import parse_overrides
    from medmcl.stages.run import load

    table = load(run).embed(
        cohort,
        modality=modality,
        stage=stage,
        space=space,
        device=device,
        overrides=parse_overrides(set_ or ()),
    )
    from medmcl.stages.run import write_parquet

    write_parquet(table, out)
    refused = int((table["quality"] != "ok").sum())
    print(f"{len(table)} records, {refused} without an embedding: {out}")


@app.command()
def check(
    cohort: CohortOption,
    recipe: Annotated[str | None, typer.Option(help="Recipe to check it for.")] = None,
    set_: SetOption = None,
) -> None:
    """Find in seconds what would fail in hours: every fault at once, each with its mend."""
    from medmcl.core.config import parse_overrides
    from medmcl.data.check import summarise
    from medmcl.stages.inspect import check as run_check

    findings = run_check(cohort, recipe=recipe, overrides=parse_overrides(set_ or ()))
    for code, count, examples in summarise(findings):
        more = f" ({count} in all; {len(examples)} shown)" if count > len(examples) else ""
        print(f"{examples[0].level} {code}{more}")
        for finding in examples:
            print(f"  {finding.where}: {finding.what}")
        print(f"  to mend: {examples[0].mend}")
    errors = sum(finding.level == "error" for finding in findings)
    print(f"{errors} errors, {len(findings) - errors} warnings")
    if errors:
        raise typer.Exit(2)


@app.command()
def simulate(
    kind: Annotated[str, typer.Argument(help="What to simulate: heart.")],
    out: Annotated[Path, typer.Option(help="Folder to write; must be new or empty.")],
    subjects: Annotated[int, typer.Option(min=1, help="Number of subjects.")] = 100,
    seed: SeedOption = 0,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="A=B",
            help="Override a setting of the simulation (coupling=0.5, form=shards). Repeatable.",
        ),
    ] = None,
) -> None:
    """Write a cohort whose truth is known."""
    from medmcl.core.config import parse_overrides
    from medmcl.data.simulate import simulate as run_simulate

    folder = run_simulate(
        kind, out, {"subjects": subjects, "seed": seed, **parse_overrides(set_ or ())}
    )
    print(f"cohort: {folder}")


@app.command()
def recipes() -> None:
    """List the recipes that ship."""
    from medmcl.core.config import read_yaml
    from medmcl.stages.recipe import list_recipes

    for name, path in list_recipes().items():
        print(f"{name:24s} {read_yaml(path).get('about', '')}")


@app.command()
def cohorts() -> None:
    """List the cohorts that ship."""
    from medmcl.core.config import read_yaml
    from medmcl.data.cohort import list_cohorts

    for name, path in list_cohorts().items():
        print(f"{name:24s} {read_yaml(path).get('about', '')}")


def main() -> None:
    """Run the command line; a user's mistake is one message and exit code 2."""
    from medmcl.core.errors import MedmclError

    try:
        app()
    except MedmclError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except Exception as error:
        if type(error).__name__ != "Interrupted":
            raise
        from medmcl.engine.signals import EXIT_CODE

        print(f"stopped: {error}; go on with --resume", file=sys.stderr)
        sys.exit(EXIT_CODE)
