"""Typer's commands with plain help, and one clear message for a command line that is not whole."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from inspect import signature
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import click
import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup
from typer.models import ArgumentInfo

from medmcl.core.errors import ConfigError
from medmcl.engine.signals import tell_of_ctrl_c, was_ctrl_c

T = TypeVar("T")


def set_option(what: str, form: str = "A.B=C") -> Any:
    """Give the option ``--set`` of a command, which overrides what is named."""
    return typer.Option("--set", metavar=form, help=f"Override {what}. Repeatable.")


OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Write over what is there.")]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
PretrainedOnOption = Annotated[
    list[str] | None,
    typer.Option(
        "--pretrained-on",
        metavar="[MODEL=]LIST",
        help="What a model (all, if none is named) was pretrained on: a table or text of ids, a "
        "folder of records, or a cohort. Who of it is scored is searched, by id or by copies of "
        "records. Repeatable.",
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Processes that read records and evaluate, where that takes longer than starting "
        "them; one a processor, at most 8, if not given. With 0 this one does all.",
    ),
]


@contextmanager
def begun(
    pairs: list[str] | None = None,
    cohort: str | None = None,
    recipe: str | None = None,
    *,
    runs: Iterable[Path | None] = (),
    out: Path | None = None,
    workers: int | None = 0,
    **reads: bool,
) -> Iterator[dict[str, Any]]:
    """Begin a command: refuse at once what it cannot use, lend processes, give its overrides.

    What the files of cohort and recipe say of them is looked up first: what is imported inside the
    block takes seconds. An error about a key that ``--set`` sets names it.

    Args:
        pairs: What ``--set`` gave.
        cohort: Cohort that the command reads.
        recipe: Recipe that it reads; the cohort's own if not given.
        runs: Folders that must be runs.
        out: Folder that is written.
        workers: See `WorkersOption`.
        reads: See `medmcl.stages.recipe.settings.refuse_settings`.
    """
    from medmcl.core.overrides import naming_overrides, parse_overrides
    from medmcl.core.writing import refuse_unwritable

    if out is not None:
        refuse_unwritable(out)
    overrides = parse_overrides(pairs or ())
    try:
        if cohort is not None:
            from medmcl.stages.recipe.settings import refuse_settings

            refuse_settings(cohort, recipe, overrides, **reads)
        for run in runs:
            if run is not None:
                from medmcl.stages.run.folder import run_config

                run_config(run)
        if workers == 0:
            yield overrides
            return
        from medmcl.data.loading.worker_pool import processors, worker_pool

        with worker_pool(processors() if workers is None else workers):
            yield overrides
    except ConfigError as error:
        raise naming_overrides(error, overrides) from None


def called(
    work: Callable[..., T], given: Mapping[str, Any], apart: Collection[str] = (), **changes: Any
) -> T:
    """Call what a command is for with what the command was given, by the same names.

    Args:
        work: A function, or a dataclass of options.
        given: Parameters of the command, its ``{**locals()}``; what was not given is left to the
            defaults of the work.
        apart: Parameters that the command uses otherwise.
        changes: What is passed instead of, or beside, what was given.

    Raises:
        TypeError: The work takes no parameter of that name, given or not: an option of no effect.
    """
    own = {name: value for name, value in given.items() if name not in {*apart, *changes}}
    if lost := own.keys() - signature(work).parameters.keys():
        raise TypeError(f"{work} takes no {', '.join(sorted(lost))}")
    return work(**{name: one for name, one in own.items() if one not in (None, [])}, **changes)


_FIXES = {
    "cohort": "--cohort FOLDER, or a name that `medmcl cohorts` lists (--cohort demo)",
    "out": "--out PATH that says where to write",
    "run": "name the run folder first: the one that `medmcl pretrain` printed",
    "kind": "say what to simulate: medmcl simulate heart --out FOLDER",
}

_NUMBERS = {
    "integer range": "a whole number", "integer": "a whole number",
    "float range": "a number", "float": "a number",
}  # fmt: skip
"""What click calls numbers, and what they are; the longer names first."""


def _plain(formatter: click.HelpFormatter) -> None:
    """Take out the backslashes that Typer puts before brackets, though nothing reads markup."""
    formatter.buffer[:] = [part.replace("\\[", "[") for part in formatter.buffer]


def _path(name: str | None, parent: click.Context | None) -> str:
    """Name a command as it is written after ``medmcl``: ``cooccur count``."""
    words = [str(name)]
    while parent is not None and parent.parent is not None:
        words.insert(0, str(parent.info_name))
        parent = parent.parent
    return " ".join(words)


def _restore_help(command: click.Command) -> None:
    """Give arguments the help that their annotations have; click 8.5 under Typer 0.20 drops it."""
    hints = get_type_hints(command.callback, include_extras=True)
    for parameter in command.params:
        if isinstance(parameter, TyperArgument) and not parameter.help:
            said = getattr(hints.get(str(parameter.name)), "__metadata__", ())
            parameter.help = next((one.help for one in said if isinstance(one, ArgumentInfo)), None)


def _unusable(fault: click.BadParameter, command: str) -> ConfigError:
    """Say which value cannot be read, and what its option is."""
    name = "" if fault.param is None else fault.param.opts[0]
    option = name if name.startswith("-") else name.upper()
    said = getattr(fault.param, "help", None)
    what = fault.message.rstrip(".")
    for typed, plain in _NUMBERS.items():
        what = what.replace(f"a valid {typed}", plain)
    return ConfigError(
        what,
        where=f"medmcl {command}, {option}" if option else f"medmcl {command}",
        fix=f"{option}: {said}" if said else f"medmcl {command} --help",
    )


class Command(TyperCommand):
    """A command that says how to complete it."""

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the help without stray backslashes."""
        _restore_help(self)
        super().format_help(ctx, formatter)
        _plain(formatter)

    def format_arguments(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write nothing: Typer lists arguments with the options, click would list them again."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """Read the words of the command line.

        Raises:
            ConfigError: A word that is needed is missing, or a value cannot be read.
        """
        words = list(args)
        try:
            return super().make_context(info_name, args, parent, **extra)
        except click.MissingParameter as fault:
            raise self._missing(fault, _path(info_name, parent), words) from None
        except click.BadParameter as fault:
            raise _unusable(fault, _path(info_name, parent)) from None

    def _missing(
        self, fault: click.MissingParameter, command: str, words: list[str]
    ) -> ConfigError:
        parameter = fault.param
        name = str(parameter.name) if parameter is not None else ""
        shown = f"--{name}" if isinstance(parameter, click.Option) else name.upper()
        fix = f"add {_FIXES[name]}" if shown[:2] == "--" and name in _FIXES else _FIXES.get(name)
        takes_words = any(isinstance(one, click.Argument) for one in self.params)
        if name == "cohort" and words and not takes_words and not words[0].startswith("-"):
            fix = f"medmcl {command} --cohort {' '.join(words)}"
        return ConfigError(
            f"{shown} is missing",
            where=f"medmcl {command}",
            got=" ".join(["medmcl", command, *words]),
            fix=fix or f"medmcl {command} --help",
        )


class Group(TyperGroup):
    """The commands; one that is not there names the nearest."""

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the help without stray backslashes."""
        super().format_help(ctx, formatter)
        _plain(formatter)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; Ctrl-C that no loop took is one line and exit code 130."""
        try:
            return super().invoke(ctx)
        except click.exceptions.Exit:
            raise
        except (KeyboardInterrupt, Exception) as error:
            if was_ctrl_c(error):
                raise tell_of_ctrl_c() from None
            if isinstance(error, EOFError):  # click would say no more than "Aborted!"
                raise RuntimeError("a file ended too early, and nobody said which") from error
            raise

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is named first.

        Raises:
            ConfigError: There is no such command.
        """
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            from medmcl.core.config import nearest

            whole = "medmcl"
            if ctx.parent is not None:
                whole = f"medmcl {_path(ctx.info_name, ctx.parent)}"
            raise ConfigError(
                f"there is no command '{args[0]}'{nearest(args[0], self.commands)}",
                where=whole,
                fix=f"`{whole} --help` says what each does",
            )
        return super().resolve_command(ctx, args)


_ASKED, _AGAINST, _ANSWERS = "How well: ", "Against what: ", 8
"""How sentences of a report begin that a command prints, and how many it prints of the first."""
_WHO, _NOT_SCORED = "Who: ", ": not scored"
"""Of whom it says that they were not scored, a command says it too."""


def say_report(folder: Path) -> None:
    """Say where the report of a folder is, how well its models did, and the first against what."""
    click.echo(f"report: {folder / 'report.html'}")
    file = folder / "report.json"
    said = json.loads(file.read_text(encoding="utf-8"))["headline"] if file.exists() else []
    for line in said:
        if line.startswith(_WHO) and _NOT_SCORED in line:
            click.echo(f"  {line.removeprefix(_WHO)}")
    answers = [line.removeprefix(_ASKED) for line in said if line.startswith(_ASKED)]
    for line in answers[:_ANSWERS]:
        click.echo(f"  {line}")
    if len(answers) > _ANSWERS:
        click.echo(f"  {len(answers) - _ANSWERS} more such lines stand in the report")
    first = f"{_AGAINST}{answers[0].partition(': ')[0]}: " if answers else _AGAINST
    against = [line.removeprefix(_AGAINST) for line in said if answers and line.startswith(first)]
    for line in against[:1]:
        click.echo(f"  {line}")


def end_wrecked(wrecked: Mapping[str, str]) -> None:
    """End with a code of its own where stages are wrecked, and say so in the last line."""
    if wrecked:
        from medmcl.stages.run.launch import WRECKED_CODE
        from medmcl.stages.train.wrecked import last_line

        click.echo(last_line(wrecked))
        raise click.exceptions.Exit(WRECKED_CODE)


def fractions_of(text: str | None) -> tuple[float, ...] | None:
    """Read ``0.01,0.1,1``: shares above 0, at most 1."""
    if text is None:
        return None
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        found = ()
    if found and all(0 < one <= 1 for one in found):
        return found
    raise ConfigError(
        "is not a list of shares",
        where="--label-fraction",
        got=text or "''",
        expected="numbers above 0, at most 1, with commas between them: 0.01,0.1,1",
        fix="10 percent is 0.1",
    )
