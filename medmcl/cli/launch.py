"""``medmcl launch``: the same commands on a cluster."""

from __future__ import annotations

from typing import Annotated, Any

import click
import typer

from medmcl.core.errors import ConfigError


def launch(
    context: typer.Context,
    words: Annotated[
        list[str], typer.Argument(metavar="-- COMMAND …", help="A command of medmcl, after --.")
    ],
    slurm: Annotated[bool, typer.Option("--slurm", help="As a job of Slurm.")] = False,
    ray: Annotated[
        bool, typer.Option("--ray", help="On the Ray cluster that RAY_ADDRESS names, or here.")
    ] = False,
    nodes: Annotated[int, typer.Option(min=1, help="Machines.")] = 1,
    devices: Annotated[
        int, typer.Option(min=1, help="Processes on each machine, one device each.")
    ] = 1,
    shards: Annotated[
        int,
        typer.Option(min=1, help="Shares of the work, one a task (prepare, check, embed, count)."),
    ] = 1,
    sbatch: Annotated[
        list[str] | None,
        typer.Option(
            "--sbatch",
            metavar="OPTION",
            help="A further option of Slurm's sbatch, as it is typed: --sbatch=--partition=gpu, "
            "--sbatch=--time=1-0. Repeatable.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be started, and start nothing.")
    ] = False,
) -> None:
    """Start a command on a cluster; it goes on where it was stopped."""
    if slurm == ray:
        raise ConfigError(
            "launches on Slurm or on Ray", got="both" if ray else "neither",
            fix="add --slurm or --ray",
        )  # fmt: skip
    if ray and sbatch:
        raise ConfigError("--sbatch is of Slurm", where="--sbatch", fix="leave it out")
    from medmcl.stages.launch.job import Job

    given = _given(context, words)
    _refuse_files(given, builds=words[0] == "pretrain")
    job = Job(words=words, given=given, nodes=nodes, devices=devices, shards=shards)
    if slurm:
        from medmcl.stages.launch.job import script, submit

        text = script(job, sbatch or ())
        print(text, end="") if dry_run else print(f"job: {submit(text)}")
        return
    from medmcl.stages.launch.job import lines, run

    if dry_run:
        print("\n".join(lines(job)))
    else:
        run(job)


def _refuse_files(given: dict[str, Any], *, builds: bool) -> None:
    """Refuse a cohort and a recipe that are not there, and overrides of them, as their command."""
    if not given.get("cohort"):
        return
    if "recipe" in given:
        from medmcl.core.overrides import parse_overrides
        from medmcl.stages.recipe.settings import refuse_settings

        overrides = parse_overrides(given.get("set_") or ())
        refuse_settings(given["cohort"], given["recipe"], overrides, builds=builds)
    else:
        from medmcl.data.cohort.locate import find_cohort

        find_cohort(given["cohort"])


def _given(context: typer.Context, words: list[str]) -> dict[str, Any]:
    """Read the words as their command will, and refuse what it would; give all its parameters."""
    within, rest = context.find_root(), list(words)
    while isinstance(within.command, click.Group):
        name, command, rest = within.command.resolve_command(within, rest)
        if command is None:
            raise ConfigError(
                "no command to launch",
                where="medmcl launch",
                got=" ".join(words),
                fix="medmcl launch --slurm -- pretrain --cohort C --out RUN",
            )
        if isinstance(command, click.Group):
            within = click.Context(command, info_name=name, parent=within)
        else:
            within = command.make_context(name, rest, parent=within)
    return within.params
