"""The command line. Heavy imports happen inside the commands, so ``--help`` answers at once.

Exit codes:

==== ==============================================================================================
0    done
1    a fault of medmcl, or of the machine
2    the user's mistake (command line, configuration, cohort, artefact), or a full disk: one
     message, with the fix
3    done, but a stage of the run is wrecked; the last line says which (``pretrain``, ``evaluate``,
     ``predict``, ``embed``)
75   saved on a signal or Ctrl-C; ``--resume`` goes on
130  Ctrl-C where there was nothing to save, or pressed twice
==== ==============================================================================================
"""

from __future__ import annotations

import logging
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from medmcl.cli.benchmark import benchmark
from medmcl.cli.command import (
    Command,
    DeviceOption,
    Group,
    OverwriteOption,
    PretrainedOnOption,
    WorkersOption,
    begun,
    called,
    end_wrecked,
    fractions_of,
    say_report,
    set_option,
)
from medmcl.cli.cooccur import app as cooccur
from medmcl.cli.export import export
from medmcl.cli.launch import launch
from medmcl.cli.predict import predict
from medmcl.core.progress import Clocked

app = typer.Typer(
    name="medmcl",
    help="Multimodal contrastive learning on medical cohorts.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    cls=Group,
)
app.add_typer(cooccur)

CohortOption = Annotated[
    str, typer.Option("--cohort", help="Cohort: folder, cohort.yaml, or a name under cohorts/.")
]
SetOption = Annotated[
    list[str] | None,
    set_option(
        "a value of the recipe (stages.NAME.epochs=5), or of the cohort "
        "(cohort.on_bad_record=exclude, data_root=/path)"
    ),
]
CohortSetOption = Annotated[
    list[str] | None,
    set_option(
        "a value of the cohort (cohort.on_bad_record=exclude, data_root=/path); the recipe is that "
        "of the run"
    ),
]
ModelOption = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        metavar="[LABEL=]NAME[:VARIANT]:FILE",
        help="A published model (`medmcl models`) with its file of weights: what it makes of the "
        "cohort is scored as --embeddings are. Repeatable.",
    ),
]
SeedOption = Annotated[int, typer.Option("--seed", help="Same seed, same bits on CPU.")]


def _version(wanted: bool) -> None:
    """Print the version and end."""
    if wanted:
        from medmcl import __version__

        print(f"medmcl {__version__}")
        raise typer.Exit


@app.callback()
def _start(
    version: Annotated[  # noqa: ARG001  # its callback prints and ends
        bool,
        typer.Option("--version", help="Print the version.", callback=_version, is_eager=True),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Only warnings and errors.")] = False,
) -> None:
    """Multimodal contrastive learning on medical cohorts."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(Clocked())
    logger = logging.getLogger("medmcl")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.WARNING if quiet else logging.INFO)
    logger.propagate = False


@app.command(cls=Command)
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
    keep: Annotated[
        Path | None,
        typer.Option(help="Keep file of `medmcl select`: only what it keeps is trained on."),
    ] = None,
    reuse: Annotated[
        Path | None,
        typer.Option(
            help="Run of this cohort whose finished stages are not trained again, where the recipe "
            "has them under the same names and settings; RUN:STAGE: that stage and what it needs, "
            "no others."
        ),
    ] = None,
    workers: WorkersOption = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the unfinished run at --out.")
    ] = False,
    rank_timeout: Annotated[
        float,
        typer.Option(
            min=1,
            help="With --devices (or torchrun): seconds that processes wait for one that is silent "
            "or late in a step, before all end. What is saved stays whole.",
        ),
    ] = 600,
) -> None:
    """Train a recipe on a cohort; ends with a run folder and its report.html."""
    given = {**locals()}
    from medmcl.engine.peers import together
    from medmcl.engine.rank_store import rank_and_size

    size = rank_and_size()[1]
    if devices > 1 and size == 1 and "RANK" not in os.environ:
        with begun(set_, cohort, recipe, out=out or Path("runs"), builds=True):
            pass
        from medmcl.stages.run.launch import relaunch

        relaunch(devices)
        return
    with (
        together(rank_timeout),
        begun(
            set_, cohort, recipe, out=out or Path("runs"), workers=workers, builds=True
        ) as overrides,
    ):
        from medmcl.stages.recipe.on_cohort import recipe_on

        opened, resolved = recipe_on(cohort, recipe, overrides)  # before torch is imported
        from medmcl.stages.run.pretrain import pretrain as run_pretrain

        apart = ("set_", "devices", "workers", "rank_timeout")
        run = called(run_pretrain, given, apart, cohort=opened, recipe=resolved)
    if run is not None:
        print(f"run:    {run.path}")
        say_report(run.path)
        end_wrecked(run.wrecked)


@app.command(cls=Command)
def evaluate(
    cohort: CohortOption,
    run: Annotated[
        Path | None,
        typer.Argument(help="Run folder; left out where only --embeddings or --model are scored."),
    ] = None,
    embeddings: Annotated[
        list[str] | None,
        typer.Option(
            "--embeddings",
            metavar="[NAME=]FILE",
            help="Vectors made elsewhere, by subject or record (.parquet, .csv, .tsv, .npz); "
            "called by the file's stem if not by NAME. Several are compared with the first. With a "
            "RUN they stand beside its models; without one --out becomes a run folder. Repeatable.",
        ),
    ] = None,
    models: ModelOption = None,
    tasks: Annotated[
        list[str] | None,
        typer.Option("--task", help="Task to score; all if not given. Repeatable."),
    ] = None,
    label_fraction: Annotated[
        str | None,
        typer.Option(
            help="Shares of the train labels, for example 0.01,0.1,1, where probes are fitted; as "
            "the recipe says if not given."
        ),
    ] = None,
    compare: Annotated[
        list[Path] | None,
        typer.Option(
            "--compare", help="Another run to set beside RUN, on the same people. Repeatable."
        ),
    ] = None,
    probe: Annotated[
        str,
        typer.Option(
            help="frozen: the probes that the run kept; refit: fitted on this cohort's train "
            "split; auto: frozen on another cohort than the run's own, if it kept any, else refit."
        ),
    ] = "auto",
    resample: Annotated[
        str | None,
        typer.Option(
            help="What the bootstrap draws: subject, site (whole), or stratified (subjects inside "
            "classes of the outcome); as the recipe says if not given."
        ),
    ] = None,
    round_to: Annotated[
        int | None,
        typer.Option(
            help="Round all counts of the report to multiples of this (5 or more), as research "
            "environments ask for what leaves them; as the recipe says if not given."
        ),
    ] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(
            help="Also write what every method said of each person that was scored (.parquet, .csv "
            "or .tsv): a file about people, to be kept as the data are."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for report and results; must hold none yet. RUN/evaluation-COHORT if not "
            "given; needed without a RUN."
        ),
    ] = None,
    pretrained_on: PretrainedOnOption = None,
    allow_overlap: Annotated[
        bool,
        typer.Option(
            "--allow-overlap",
            help="Score models, or vectors of them, that may have been trained on who is scored; "
            "every row says so.",
        ),
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Write over the report of --out and the table of --predictions; never over a run.",
        ),
    ] = False,
    set_: Annotated[
        list[str] | None,
        set_option(
            "a value of the evaluate stage (evaluate.draws=5, evaluate.covariates=clinic, "
            "evaluate.folds='5 x 1'; stages are trained again only by evaluate.refit=all beside "
            "folds), or of the cohort (cohort.on_bad_record=exclude, data_root=/path)"
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed",
            help="Of label subsets, folds and bootstrap; the run's if not given, 0 without a RUN.",
        ),
    ] = None,
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
) -> None:
    """Score a run, or vectors from elsewhere, on people whom nothing was fitted on.

    They are the held-out split; of another cohort that declares no split, everybody.
    """
    given, fractions = {**locals()}, fractions_of(label_fraction)
    target = out if out is not None or run is None or not run.is_dir() else run
    with begun(
        set_, cohort, runs=(run, *(compare or ())), out=target, workers=workers,
        reads_recipe=False, reads_stage=True,
    ) as overrides:  # fmt: skip
        from medmcl.stages.evaluate.evaluate import evaluate as run_evaluate

        done = called(
            run_evaluate, given, ("label_fraction", "set_", "workers"),
            label_fractions=fractions, overrides=overrides, probe=_probe(probe),
        )  # fmt: skip
    say_report(done.folder)
    if predictions is not None:
        from medmcl.stages.predict.people import WARNING

        print(f"predictions: {predictions}\nnote: {WARNING}")
    end_wrecked(done.wrecked)


def _probe(text: str) -> Any:
    """Read ``--probe``."""
    from medmcl.core.config import lookup

    return lookup("--probe", text, {one: one for one in ("auto", "frozen", "refit")})


app.command(cls=Command)(predict)
app.command(cls=Command)(benchmark)
app.command(cls=Command)(launch)
app.command(cls=Command)(export)


@app.command(cls=Command)
def embed(
    cohort: CohortOption,
    out: Annotated[
        Path, typer.Option(help="Table to write (.parquet, .csv or .tsv); must be new.")
    ],
    run: Annotated[
        Path | None, typer.Argument(help="Run folder; left out where --model embeds.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[:VARIANT]:FILE",
            help="A published model (`medmcl models`) with its file of weights, in a run's place.",
        ),
    ] = None,
    variant: Annotated[
        str | None, typer.Option(help="Variant of the model, if --model does not name it.")
    ] = None,
    preparation: Annotated[
        str | None, typer.Option(help="Another preparation that the card of the model knows.")
    ] = None,
    modality: Annotated[
        str | None,
        typer.Option(
            help="Modality to embed; the run's first if not given, or the only one that the model "
            "reads. Of a run several (a,b) or all: the mean of those a sample has; with --space "
            "pooled."
        ),
    ] = None,
    stage: Annotated[str | None, typer.Option(help="Stage whose tower to use.")] = None,
    space: Annotated[
        str, typer.Option(help="features (before the projection) or pooled (shared space).")
    ] = "features",
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Embed one of N shares, for N processes with the same --out; whoever ends last "
            "joins them, to the same bytes as one process writes.",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an embedding that was not finished.")
    ] = False,
    overwrite: OverwriteOption = False,
    set_: CohortSetOption = None,
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
) -> None:
    """Write the embedding of every record of a cohort, with a quality flag."""
    given = {**locals()}
    with begun(set_, cohort, workers=workers, reads_recipe=False) as overrides:
        from medmcl.stages.run.embed import EmbedCommand

        command = called(EmbedCommand, given, ("set_", "workers"), overrides=overrides)
        said, wrecked = command.write()
    print(said)
    end_wrecked(wrecked)


@app.command(cls=Command)
def select(
    run: Annotated[Path, typer.Argument(help="Run folder: its towers are the teacher.")],
    cohort: CohortOption,
    out: Annotated[Path, typer.Option(help="Keep file to write (.parquet); must be new.")],
    by: Annotated[
        list[str] | None,
        typer.Option(
            "--by",
            metavar="KIND:SHARE",
            help="A step of the rule: keep this share of the whole pool, however many steps there "
            "are, by clip_score, neg_clip_loss, norm_sim or norm_sim_dynamic. Repeatable; of the "
            "run's own select stage if not given, else neg_clip_loss:0.3.",
        ),
    ] = None,
    pair: Annotated[
        str | None, typer.Option(help="The two modalities, a,b; the run's first two if not given.")
    ] = None,
    stages: Annotated[
        list[str] | None,
        typer.Option(
            "--stage", help="Stage whose towers score; several if each left out a fold. Repeatable."
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            help="Cohort whose train split every norm_sim of the rule should be near to; if not "
            "given, as the selection says: the tuning split of --cohort."
        ),
    ] = None,
    also: Annotated[
        list[Path] | None,
        typer.Option(
            "--and",
            help="Another filter: keep only what it keeps as well (a keep file, or a text file of "
            "ids). Repeatable.",
        ),
    ] = None,
    or_else: Annotated[
        list[Path] | None,
        typer.Option("--or", help="Another filter: keep what it keeps, too; after --and."),
    ] = None,
    shown: Annotated[
        int,
        typer.Option(min=0, help="Pairs in each row of a contact sheet: records of single people."),
    ] = 0,
    overwrite: OverwriteOption = False,
    set_: Annotated[
        list[str] | None,
        set_option(
            "a value of the selection (select.scores.norm_sim.p=inf), or of the cohort "
            "(cohort.on_bad_record=exclude, data_root=/path)"
        ),
    ] = None,
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
) -> None:
    """Choose the pairs of a cohort that are worth training on; `pretrain --keep` takes the file."""
    given = {**locals()}
    from medmcl.core.writing import refuse_unwritable

    refuse_unwritable(out, folder=False)
    with begun(set_, runs=(run,), workers=workers) as overrides:
        from medmcl.data.cohort.locate import find_cohort

        find_cohort(cohort)
        from medmcl.stages.select.command import select as run_select

        done = called(
            run_select, given, ("shown", "set_", "workers"),
            pair=None if pair is None else pair.split(","),
            overrides={"select.shown": shown, **overrides},
        )  # fmt: skip
    print(done.sentence)
    for note in (*done.repeats, *done.notes):
        print(note)
    print(f"keep:   {out}")
    print(f"report: {out.with_suffix('.html')}")


@app.command(cls=Command)
def prepare(
    cohort: CohortOption,
    out: Annotated[Path, typer.Option(help="Run that will read them: they are cached beside it.")],
    recipe: Annotated[
        str | None,
        typer.Option(help="Recipe that reads them: file or name; the cohort's own if not given."),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Prepare one of N shares, for N processes; whoever ends last joins them, to the "
            "same bytes as one process writes.",
        ),
    ] = None,
    set_: SetOption = None,
    workers: WorkersOption = None,
) -> None:
    """Prepare the records that `pretrain` will read, which otherwise does it itself."""
    with begun(set_, cohort, recipe, workers=workers) as overrides:
        from medmcl.stages.recipe.on_cohort import prepare_records

        said = prepare_records(cohort, recipe, out, overrides, shard)
    print(said)


@app.command(cls=Command)
def check(
    cohort: CohortOption,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="Recipe to check it for: file, or a name that `medmcl recipes` lists; the "
            "cohort's own if not given."
        ),
    ] = None,
    screen: Annotated[
        Path | None,
        typer.Option(
            "--screen",
            metavar="RUN",
            help="Instead of looking for faults, list the most suspect pairs of the train split, "
            "by detectors of poison on this run's embeddings. Options from --stage to --device "
            "are for this alone.",
        ),
    ] = None,
    gpu: Annotated[
        bool,
        typer.Option(
            "--gpu",
            help="Say too what each train stage takes of a GPU, and which batch fits: counted "
            "without one, in some seconds a stage.",
        ),
    ] = False,
    predict: Annotated[
        Path | None,
        typer.Option(
            "--predict",
            metavar="RUN",
            help="Look at the cohort as `predict` with this run does: outcomes and splits are not "
            "read, columns must be coded as in training.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[:VARIANT][:FILE]",
            help="Look at the records as `embed --model` prepares them: which would get no vector, "
            "and why. With its file, that is read, too.",
        ),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Read one of N shares of the records, for N processes; whoever ends last tells "
            "what one process would.",
        ),
    ] = None,
    stage: Annotated[
        str | None,
        typer.Option(
            help="Stage whose tower to use; the last one trained without labels if not given."
        ),
    ] = None,
    modality: Annotated[
        str | None,
        typer.Option(help="Modality to embed; that of the attack, else the stage's first picture."),
    ] = None,
    attack: Annotated[
        str | None,
        typer.Option(
            help="Poison stage of the run to lay over the rows, and to judge by; the one that the "
            "stage is poisoned_by if not given; none: no attack, on any cohort."
        ),
    ] = None,
    detector: Annotated[
        str | None,
        typer.Option(help="dao, slof, lid or knn_distance: by which to list first (default dao)."),
    ] = None,
    k: Annotated[int | None, typer.Option("--k", min=1, help="Neighbours (default 16).")] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            help="Look for neighbours in drawn batches of so many rows; among all if not given."
        ),
    ] = None,
    top: Annotated[int | None, typer.Option(min=1, help="Suspects to show (default 50).")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for suspects.html, .csv and .json; must hold none yet "
            "(default RUN/screen-COHORT)."
        ),
    ] = None,
    overwrite: Annotated[
        bool | None, typer.Option("--overwrite", help="Write over what is there.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of batches and bootstrap draws (default 0).")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="auto, cpu, cuda or cuda:N (default auto).")
    ] = None,
    set_: Annotated[
        list[str] | None,
        set_option(
            "a value of the recipe (stages.NAME.epochs=5; not with --screen or --predict, whose "
            "recipe is the run's), or of the cohort (cohort.on_bad_record=exclude, "
            "data_root=/path)"
        ),
    ] = None,
    workers: WorkersOption = None,
) -> None:
    """Find in seconds what would fail in hours: every fault at once, each with how to fix it.

    With --screen RUN: list the pairs that look most like poison, or are merely odd, to a run.
    """
    options = {
        "stage": stage, "modality": modality, "attack": attack, "detector": detector, "k": k,
        "batch": batch, "top": top, "out": out, "overwrite": overwrite, "seed": seed,
        "device": device,
    }  # fmt: skip
    given = {name: value for name, value in options.items() if value is not None}
    if screen is not None:
        _refuse_beside(
            "--screen", {"recipe": recipe, "predict": predict, "model": model, "shard": shard}
        )
        _screen(screen, cohort, given, set_, workers)
        return
    _refuse_given(given)
    if predict is not None:
        _refuse_beside("--predict", {"recipe": recipe, "model": model, "shard": shard})
        _check_people(predict, cohort, set_, workers)
        return
    if model is not None:
        _refuse_beside("--model", {"recipe": recipe, "shard": shard})
        _check_for_model(model, cohort, set_, workers)
        return
    logging.getLogger("medmcl").info("reading the tables of %s", cohort)
    with begun(set_, cohort, recipe, workers=workers) as overrides:
        from medmcl.data.loading.shared_work import Shard
        from medmcl.stages.recipe.inspect import check as run_check

        part = None if shard is None else Shard.read(shard)
        findings = run_check(cohort, recipe=recipe, overrides=overrides, shard=part)
        if part is not None and findings.unread is not None:
            print(findings.unread.told(part, "tells what is wrong"))
            return
        if gpu and not any(finding.level == "error" for finding in findings):
            from medmcl.stages.recipe.inspect import gpu_needs

            print("\n".join(["on a GPU", *gpu_needs(cohort, recipe, overrides)]))
    _end_checked(findings)


def _check_people(run: Path, cohort: str, set_: list[str] | None, workers: int | None) -> None:
    """Look at a cohort as ``predict`` does: ``check --predict``."""
    with begun(set_, cohort, runs=(run,), workers=workers, reads_recipe=False) as overrides:
        from medmcl.stages.predict.cohort import check_people
        from medmcl.stages.run.run import load

        findings = check_people(load(run), cohort, overrides)
    _end_checked(findings)


def _check_for_model(model: str, cohort: str, set_: list[str] | None, workers: int | None) -> None:
    """Look at a cohort as ``embed --model`` does: ``check --model``."""
    with begun(set_, cohort, workers=workers, reads_recipe=False) as overrides:
        from medmcl.stages.run.embedding import check_for_model

        findings = check_for_model(model, cohort, overrides)
    _end_checked(findings)


def _end_checked(findings: Any) -> None:
    """Print what a check found, and end with code 2 where there are errors."""
    from medmcl.stages.recipe.inspect import written

    print(written(findings))
    if any(finding.level == "error" for finding in findings):
        raise typer.Exit(2)


def _refuse_beside(option: str, others: dict[str, object]) -> None:
    """Refuse what means nothing beside an option of ``check`` that names a run."""
    from medmcl.core.errors import ConfigError

    for name, value in others.items():
        if value is not None:
            raise ConfigError(
                f"means nothing with {option}, which says itself how the cohort is looked at",
                where="medmcl check",
                got=f"--{name} {value}",
                fix=f"leave --{name} out",
            )


def _refuse_given(options: dict[str, Any]) -> None:
    """Refuse options of ``check --screen`` where nothing is screened."""
    from medmcl.core.errors import ConfigError

    if options:
        names = ", ".join(f"--{name}" for name in options)
        raise ConfigError(
            "means nothing without --screen",
            where="medmcl check",
            got=names,
            fix="add --screen RUN, or leave it out",
        )


def _screen(
    run: Path,
    cohort: str,
    options: dict[str, Any],
    set_: list[str] | None,
    workers: int | None,
) -> None:
    """Screen a cohort with a run: ``check --screen``."""
    out = options.get("out", run if run.is_dir() else None)
    with begun(
        set_, cohort, runs=(run,), out=out, workers=workers, reads_recipe=False
    ) as overrides:
        from medmcl.stages.screen.screen import check_screen

        done = check_screen(run, cohort, overrides=overrides, **options)
    print(done.summary)


@app.command(cls=Command)
def poison(
    cohort: CohortOption,
    out: Annotated[
        Path, typer.Option(help="Folder for the manifest, poison.html and poison.json.")
    ],
    recipe: Annotated[
        str, typer.Option(help="Recipe with a poison stage: file, or name.")
    ] = "poisoned",
    stage: Annotated[
        str | None, typer.Option(help="Its poison stage; the only one if not given.")
    ] = None,
    set_: SetOption = None,
    seed: Annotated[
        int, typer.Option("--seed", help="Of the run: the same one draws the same records.")
    ] = 0,
    shown: Annotated[
        int, typer.Option(min=0, help="Poisoned records on the page: records of single people.")
    ] = 0,
    keep: Annotated[
        Path | None,
        typer.Option(help="Keep file of `medmcl select`: only what it keeps can be poisoned."),
    ] = None,
    overwrite: OverwriteOption = False,
    workers: WorkersOption = None,
) -> None:
    """Draw which train records an attack poisons, to test defences; trains nothing.

    The data stay as they are. `pretrain` takes the manifest: --set stages.NAME.manifest=FILE.
    """
    given = {**locals()}
    with begun(set_, cohort, recipe, out=out, workers=workers) as overrides:
        from medmcl.stages.poison.command import poison as run_poison

        done = called(run_poison, given, ("set_", "workers"), overrides=overrides)
    print(done.summary)


@app.command(cls=Command)
def simulate(
    kind: Annotated[
        str,
        typer.Argument(
            help="heart: ECG and cardiac MR of one heart; ehr: codes and concepts over time "
            "(MEDS); modalities: many tables, related as a tree is; shapes: pictures with "
            "captions; trifactor: factors of unequal ease in vectors, digits or pictures."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder to write; must be new or empty.")],
    subjects: Annotated[int, typer.Option(min=1, help="Number of subjects.")] = 100,
    seed: SeedOption = 0,
    set_: Annotated[
        list[str] | None,
        set_option(
            "a setting of the simulation (heart: coupling=0.5; ehr: case=1; modalities: rho=0.7; "
            "shapes: noisy_pairs=0.3; trifactor: world=digits); docs/cohort.md, Simulated cohorts, "
            "lists them",
            "A=B",
        ),
    ] = None,
) -> None:
    """Write a cohort whose truth is known."""
    with begun(set_, out=out, workers=None) as overrides:
        from medmcl.simulation.kinds import simulate as run_simulate

        folder = run_simulate(kind, out, {"subjects": subjects, "seed": seed, **overrides})
    print(f"cohort: {folder}")


@app.command(cls=Command)
def shards(
    cohort: CohortOption,
    out: Annotated[Path, typer.Option(help="Folder to write; must be new or empty.")],
    per_shard: Annotated[int, typer.Option(min=1, help="Samples of a shard.")] = 1000,
    modality: Annotated[
        list[str] | None,
        typer.Option("--modality", help="Images or texts to write; all if not given. Repeatable."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        set_option("a value of the cohort (cohort.tasks.NAME=null, data_root=/path)"),
    ] = None,
) -> None:
    """Write images, texts and targets as WebDataset tar shards, and a cohort that reads them."""
    with begun(set_, cohort, out=out, reads_recipe=False) as overrides:
        from medmcl.data.cohort.cohort import open_cohort
        from medmcl.data.loading.shards import write_shards

        done = write_shards(open_cohort(cohort, overrides), out, per_shard, modality or ())
    for one in done.left_out:
        print(f"not written: {one}")
    counts = ", ".join(f"{count} {split}" for split, count in done.shards.items())
    print(f"cohort: {done.folder} ({done.samples} samples; shards: {counts})")


@app.command(cls=Command)
def recipes(
    name: Annotated[
        str | None,
        typer.Argument(help="A recipe, name or file: its stages, and what each key is now."),
    ] = None,
    key: Annotated[
        str | None,
        typer.Argument(
            help="A key of it (stages.NAME, stages.NAME.optimiser, inputs.NAME, ...): every key "
            "below, with what it takes, its default and what it means."
        ),
    ] = None,
) -> None:
    """List the recipes that ship, and what a cohort must have for each; or show one."""
    if name is None:
        from medmcl.stages.recipe.needs import list_of_recipes

        print(list_of_recipes())
        return
    from medmcl.stages.recipe.listing import one_recipe

    print(one_recipe(name, key))


@app.command(cls=Command)
def parts(
    name: Annotated[
        str | None,
        typer.Argument(help="A part, or a kind of parts: what it is, whose, and what can be set."),
    ] = None,
) -> None:
    """List modalities, encoders, objectives, models and stages, also of other packages."""
    from medmcl.stages.recipe.listing_parts import list_of_parts, one_part

    print(list_of_parts() if name is None else one_part(name))


@app.command(cls=Command)
def models(
    name: Annotated[
        str | None,
        typer.Argument(help="NAME or NAME:VARIANT: all that is known of it, and how it is used."),
    ] = None,
) -> None:
    """List published encoders that take your file of their weights: input, licence, data seen."""
    from medmcl.encoders.published.listing import list_of_models, one_model

    print(list_of_models() if name is None else one_model(name))


@app.command(cls=Command)
def cohorts(
    name: Annotated[
        str | None, typer.Argument(help="A cohort, name or folder: its modalities and tasks.")
    ] = None,
) -> None:
    """List the cohorts that ship, with the recipe that each takes if none is named; or show one."""
    from medmcl.data.cohort.listing import list_of_cohorts, one_cohort

    print(list_of_cohorts() if name is None else one_cohort(name))


def main() -> None:
    """Run the command line; a user's mistake is one message and exit code 2."""
    from medmcl.core.errors import MedmclError, memory_error
    from medmcl.core.writing import disk_error, file_error
    from medmcl.engine.signals import spare_imports

    spare_imports()
    try:
        app()
    except MedmclError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except Exception as error:
        if type(error).__name__ == "EndedTogether":
            if error.said:  # type: ignore[attr-defined]  # of medmcl.engine.peers
                print(error, file=sys.stderr)
            sys.exit(error.code)  # type: ignore[attr-defined]  # looked for by name
        if type(error).__name__ != "Interrupted":
            told = disk_error(error) or file_error(error)
            short = memory_error(error)
            if told is None and short is None:
                raise
            print(f"error: {told or short}", file=sys.stderr)
            sys.exit(1 if told is None else 2)
        from medmcl.engine.signals import EXIT_CODE

        folder = getattr(error, "folder", None)
        print(f"stopped: {error}\ngo on with: {_resume_line(folder)}", file=sys.stderr)
        sys.exit(EXIT_CODE)


def _resume_line(folder: Path | None) -> str:
    """Give the command that goes on with the run of this command."""
    words = ["medmcl", *sys.argv[1:]]
    if folder is not None and not any(word.split("=")[0] == "--out" for word in words):
        words += ["--out", str(folder)]
    return shlex.join(words if "--resume" in words else [*words, "--resume"])
