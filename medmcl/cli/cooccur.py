"""`medmcl cooccur ...`: counts of codes and concepts, without sharing patients.

Heavy imports happen inside the commands, as in `cli`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from medmcl.cli.command import Command, Group, OverwriteOption, called, set_option

app = typer.Typer(
    name="cooccur",
    help="Count, release, merge and embed EHR codes and concepts without sharing patients.",
    no_args_is_help=True,
    cls=Group,
)

SpecArgument = Annotated[Path, typer.Argument(help="YAML that says what to count.")]
SetOption = Annotated[
    list[str] | None,
    set_option("a value of the spec (window=days:30, data_root=/path)"),
]

CountsFolder = Annotated[Path, typer.Option(help="Folder of counts to write; must be new.")]
ReleaseFolder = Annotated[Path, typer.Option(help="Folder of the release; must be new.")]
VectorsFolder = Annotated[Path, typer.Option(help="Folder of vectors to write; must be new.")]
ShareFile = Annotated[Path, typer.Option(help="File of the share; must be new.")]
Shares = Annotated[list[Path], typer.Argument(help="One share of every site.")]
Sites = Annotated[list[str], typer.Option("--site", help="A site; repeat for each, at least 3.")]
Keys = Annotated[Path, typer.Option(help="This site's keys; they stay here.")]
SecureRound = Annotated[
    Path, typer.Option("--round", help="Folder of secure-start, or its round.json.")
]
Epsilon = Annotated[float, typer.Option(help="Of this release.")]
Delta = Annotated[float, typer.Option(help="Of this release; well below 1 / patients.")]
WindowOption = Annotated[str, typer.Option(help="Window of a row, if the table has one.")]
AllowNoise = Annotated[
    bool,
    typer.Option(
        "--allow-noise", help="Release also where noise hides cells of up to 100 patients."
    ),
]


@app.command(cls=Command)
def count(
    spec: SpecArgument,
    out: CountsFolder,
    set_: SetOption = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes, or tasks on Ray; 1, or the cluster's CPUs."),
    ] = None,
    ray: Annotated[
        bool,
        typer.Option("--ray", help="Count on a Ray cluster, RAY_ADDRESS or here (extra [ray])."),
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a count that was killed.")
    ] = False,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Count one of N shares of the events, for N processes with the same --out; "
            "whoever ends last adds them up, to the same bytes as one process writes.",
        ),
    ] = None,
) -> None:
    """Count which codes and concepts stand together in patients' records."""
    from medmcl.cooccurrence.count.command import count as run_count
    from medmcl.cooccurrence.count.counts import exact_sum
    from medmcl.cooccurrence.count.run import Means
    from medmcl.cooccurrence.exchange.folder import save_counts
    from medmcl.stages.cooccur.count import going_on

    found = _spec(spec, set_, out)
    means = Means(memory=found.keys.memory, workers=workers, ray=ray)
    if shard is not None:
        from medmcl.cooccurrence.count.shares import count_shard
        from medmcl.data.loading.shared_work import Shard

        share = Shard.read(shard)
        stand = count_shard(found, out, save_counts, share, means=means)
        print(stand.told(share, f"writes {out}") if stand.missing else f"counts: {out}")
        return
    with going_on(out):
        counts, tally = run_count(found, out, save_counts, means=means, resume=resume)
    print(f"{counts.patients:,} patients, {counts.units:,} units ({counts.window})")
    for (a, b), block in counts.blocks.items():
        shape = f"{block.pairs.shape[0]:,} x {block.pairs.shape[1]:,}"
        pairs = exact_sum(block.pairs.data)
        print(f"{a} x {b}: {shape}, {block.pairs.nnz:,} cells, {pairs:,} pairs")
    if counts.nested:
        print(f"nested codes (one event counts for several): {', '.join(counts.nested)}")
    for line in (*tally.left_out(), *tally.repeats(dropped=found.keys.duplicates == "drop")):
        print(line)
    print(f"counts: {out}")


@app.command("to-meds", cls=Command)
def to_meds(
    spec: SpecArgument,
    out: Annotated[Path, typer.Option(help="Folder of the dataset to write; must be new.")],
    set_: SetOption = None,
    shards: Annotated[
        int | None, typer.Option(min=1, help="Files to write; by size if not given.")
    ] = None,
) -> None:
    """Write the sources of a spec (OMOP, Synthea, tables, notes) as MEDS 0.4."""
    from medmcl.cooccurrence.count.command import convert

    done = convert(_spec(spec, set_, out), out, shards=shards)
    for name, events in done.events.items():
        print(f"{name}: {events:,} events")
    print(f"{len(done.subjects):,} patients: {out}")


@app.command(cls=Command)
def rows(
    spec: SpecArgument,
    out: Annotated[Path, typer.Option(help="Table to write (.parquet, .csv); stays at the site.")],
    set_: SetOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Write patients' token counts, a row a subject, modality and code, for `release-private`."""
    from medmcl.stages.cooccur.count import write_rows

    _say(write_rows(_spec(spec, set_), out, overwrite=overwrite))


CountsArguments = Annotated[list[Path], typer.Argument(help="Folders of counts, one a site.")]
AlignOption = Annotated[
    str | None,
    typer.Option(help="union: sites counted over vocabularies of their own; see the docs."),
]


OtherPeople = Annotated[
    bool,
    typer.Option(
        "--other-people",
        help="Patients of the same ids at two sites are other people, by chance. If they are the "
        "same, one patient alone can pass the threshold.",
    ),
]

OtherRows = Annotated[
    bool,
    typer.Option(
        "--other-people",
        help="Subjects are row numbers here (0 or 1 on) and where another budget was charged, and "
        "other people; the ledger says it. If they are the same, they have two budgets.",
    ),
]


BesidePrivate = Annotated[
    bool,
    typer.Option(
        "--beside-private",
        help="A privacy budget was charged for some of the patients, and exact counts of them "
        "leave all the same.",
    ),
]


@app.command(cls=Command)
def merge(
    counts: CountsArguments,
    out: CountsFolder,
    align: AlignOption = None,
    other_people: OtherPeople = False,
) -> None:
    """Add up the counts of several sites, exactly."""
    from medmcl.stages.cooccur.merge import merge_folders

    _say(merge_folders(counts, out, align=_align(align), other_people=other_people))


@app.command(cls=Command)
def release(
    counts: CountsArguments,
    out: ReleaseFolder,
    min_patients: Annotated[
        int, typer.Option(min=2, help="Cells of fewer patients are left out.")
    ] = 11,
    public_vocabulary: Annotated[
        bool,
        typer.Option("--public-vocabulary", help="Codes were fixed in public: all stay listed."),
    ] = False,
    allow_nested: Annotated[
        bool,
        typer.Option(
            "--allow-nested",
            help="Codes count one another's events, or an earlier release's: release.",
        ),
    ] = False,
    align: AlignOption = None,
    largest_share: Annotated[
        float,
        typer.Option(help="Most of a cell that one patient or site may give; 1: no such rule."),
    ] = 0.8,
    beside_private: BesidePrivate = False,
    beside_sums: Annotated[
        bool,
        typer.Option(
            "--beside-sums",
            help="No site of a secure sum is in counts that are released by themselves: release.",
        ),
    ] = False,
    other_people: OtherPeople = False,
) -> None:
    """Write counts that may leave: cells of few patients absent, nothing else that tells them.

    Several sites are added up first, which loses fewer cells than suppressing at each.
    """
    given = {**locals()}
    from medmcl.stages.cooccur.release import release_folders

    done = called(release_folders, given, ("counts",), sites=counts, align=_align(align))
    cells, share, warnings = (done.pop(key) for key in ("cells", "share suppressed", "warnings"))
    done["cells suppressed"] = f"{done['cells suppressed']:,} of {cells:,} ({share:.1%})"
    _say({**done, "warnings": warnings})


@app.command(cls=Command)
def listed(
    rows: Annotated[
        Path, typer.Argument(help="Table: subject, modality, code, count; see `rows`.")
    ],
    vocabulary: Annotated[Path, typer.Option(help="Public table: modality, code, version.")],
) -> None:
    """Say how much of a table of rows a vocabulary lists, before a release is paid for."""
    from medmcl.stages.cooccur.release import listed_rows

    _say(listed_rows(rows, vocabulary))


@app.command("release-private", cls=Command)
def release_private(
    rows: Annotated[
        Path, typer.Argument(help="Table: subject, modality, code, count; see `rows`.")
    ],
    vocabulary: Annotated[Path, typer.Option(help="Public table: modality, code, version.")],
    ledger: Annotated[Path, typer.Option(help="Budget of these patients; see `budget`.")],
    clip: Annotated[
        list[str],
        typer.Option(
            metavar="NAME=N",
            help="Longest counts of a patient: a public constant (codes=7), or a quantile that is "
            "chosen from the patients and paid for (codes=quantile:0.5). Once a modality.",
        ),
    ],
    epsilon: Epsilon,
    delta: Delta,
    out: ReleaseFolder,
    window: WindowOption = "record",
    clip_share: Annotated[
        float, typer.Option(help="Share of the cost (rho) that chosen bounds take, all together.")
    ] = 0.1,
    clip_longest: Annotated[
        int, typer.Option(min=1, help="Where the search for a quantile ends; fixed in public.")
    ] = 64,
    allow_noise: AllowNoise = False,
    other_people: OtherRows = False,
) -> None:
    """Write noisy counts under differential privacy, a patient being the unit (extra [dp])."""
    given = {**locals()}
    from medmcl.stages.cooccur.release import read_bounds, release_rows

    bounds = read_bounds(clip, clip_longest)
    _say(called(release_rows, given, ("clip_longest",), clip=bounds))


@app.command(cls=Command)
def budget(
    ledger: Annotated[Path, typer.Argument(help="File of the ledger.")],
    epsilon: Annotated[float | None, typer.Option(help="Start one: all releases together.")] = None,
    delta: Annotated[float | None, typer.Option(help="Start one.")] = None,
) -> None:
    """Start the privacy budget of a site's patients, or say what was spent of it."""
    from medmcl.cooccurrence.release.register import unseen
    from medmcl.stages.cooccur.release import start_budget

    kept = start_budget(ledger, epsilon, delta)
    whole, spent = kept.read(), kept.spent()
    said = {"budget": f"epsilon {whole.epsilon:g}, delta {whole.delta:g}", **spent.model_dump()}
    _say(said | {"warnings": unseen()})
    print(f"left for one release: epsilon {kept.left():.4g} at this delta")


@app.command("secure-pair", cls=Command)
def secure_pair(
    site: Annotated[str, typer.Option(help="This site.")],
    other: Annotated[str, typer.Option(help="The other one.")],
    keys: Annotated[Path, typer.Option(help="This site's keys; made if they are not there.")],
    seed: Annotated[Path, typer.Option(help="File that the first site writes, the second takes.")],
) -> None:
    """Agree with another site on a seed: the first draws it, the second takes it from the file."""
    from medmcl.stages.cooccur.merge import share_seed

    _say(share_seed(site, other, keys, seed))


@app.command("secure-start", cls=Command)
def secure_start(
    counts: Annotated[Path, typer.Argument(help="Any site's counts: only their shape is read.")],
    site: Sites,
    out: Annotated[Path, typer.Option(help="New folder: round.json for all, an empty layout.")],
) -> None:
    """Start a secure sum over three sites or more."""
    from medmcl.stages.cooccur.merge import start_round

    _say(start_round(counts, site, out))


@app.command("secure-share", cls=Command)
def secure_share(
    counts: Annotated[Path, typer.Argument(help="This site's exact counts.")],
    keys: Keys,
    round_: SecureRound,
    out: ShareFile,
    other_people: OtherPeople = False,
    beside_private: BesidePrivate = False,
) -> None:
    """Mask this site's counts for one secure sum; the share may leave, the counts stay."""
    from medmcl.stages.cooccur.merge import share_counts

    said = {"other_people": other_people, "beside_private": beside_private}
    _say(share_counts(counts, keys, round_, out, **said))


@app.command("secure-sum", cls=Command)
def secure_sum(
    shares: Shares,
    round_: SecureRound,
    out: CountsFolder,
) -> None:
    """Add up the shares: the exact counts of all sites together, of no site alone."""
    from medmcl.stages.cooccur.merge import sum_shares

    _say(sum_shares(shares, round_, out))


@app.command(cls=Command)
def embed(
    counts: Annotated[Path, typer.Argument(help="Folder of counts, exact or released.")],
    out: VectorsFolder,
    set_: Annotated[
        list[str] | None,
        set_option("a setting (rank=50, shrink=true, association=log)", "A=B"),
    ] = None,
) -> None:
    """Embed codes and concepts: PMI, then SVD."""
    from medmcl.cooccurrence.embed.embed import EmbedSettings
    from medmcl.cooccurrence.exchange.folder import load_counts, read_manifest
    from medmcl.core.config import check
    from medmcl.core.errors import ConfigError
    from medmcl.core.overrides import parse_overrides
    from medmcl.stages.cooccur.embed import embed as run_embed

    given = dict(parse_overrides(set_ or ()))
    settings = check(EmbedSettings, given, where="cooccur embed", error=ConfigError)
    found, release = load_counts(counts), read_manifest(counts).release
    facts = run_embed(found, out, settings, release=release)
    print(f"{facts['rank']} dimensions ({facts['rank_rule']}), {facts['association']}")
    if facts["without_vector"]:
        print(f"{facts['without_vector']} tokens have no vector: embedding.json names them")
    print(f"vectors: {out}")


@app.command("merge-embeddings", cls=Command)
def merge_embeddings(
    vectors: Annotated[
        list[Path], typer.Argument(help="Folders that `cooccur embed` wrote, one a site.")
    ],
    out: VectorsFolder,
    rank: Annotated[
        int | None, typer.Option(min=1, help="Dimensions; the smallest of the sites' if not given.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the permutations that judge each fit.")] = 0,
) -> None:
    """Merge the vectors of sites that counted different codes; refused where that is a guess."""
    from medmcl.stages.cooccur.align import merge_embedded

    facts = merge_embedded(vectors, out, rank=rank, seed=seed)
    for site in facts["merged"]["sites"]:
        fit = site["alignment"]
        how = fit["verdict"]
        if how == "safe":
            how = f"{fit['tokens']} shared, safe: residual {fit['residual']:.2f}"
            how += f" (by chance {fit['residual_by_chance']:.2f})"
        print(f"{site['site']}: {site['tokens']} tokens, {site['pairs']:,} pairs; {how}")
    print(f"{facts['rank']} dimensions ({facts['rank_rule']})")
    print(
        f"{facts['merged']['unseen_cells']:.0%} of the cells were seen by no site, and are filled"
    )
    print(f"vectors: {out}")


@app.command(cls=Command)
def evaluate(
    vectors: Annotated[Path, typer.Argument(help="Folder that `cooccur embed` wrote.")],
    out: Annotated[Path, typer.Option(help="Folder to write; must hold no evaluation.")],
    relations: Annotated[
        Path | None, typer.Option(help="Known pairs: first, second, relation.")
    ] = None,
    hierarchy: Annotated[
        Path | None, typer.Option(help="MEDS codes.parquet: parents and siblings.")
    ] = None,
    relevance: Annotated[
        Path | None, typer.Option(help="CSV: query, candidate, relevance.")
    ] = None,
    types: Annotated[Path | None, typer.Option(help="CSV: token, type.")] = None,
    neighbours: Annotated[
        list[str] | None, typer.Option(help="A token whose neighbours to list. Repeatable.")
    ] = None,
    groups: Annotated[
        list[Path] | None,
        typer.Option(
            help="Exact counts of a group of the patients behind the vectors; name all groups: "
            "standard errors of neighbours. Repeatable."
        ),
    ] = None,
    overwrite: OverwriteOption = False,
    seed: Annotated[int, typer.Option(help="Of random pairs, bootstraps and map.")] = 0,
) -> None:
    """Score an embedding by known relations, relevance and neighbours; draw its map."""
    given = {**locals()}
    from medmcl.stages.cooccur.embed import load_vectors
    from medmcl.stages.cooccur.evaluate import evaluate as run_evaluate
    from medmcl.stages.cooccur.evaluate import open_groups, said

    found = called(
        run_evaluate, given, ("vectors", "neighbours"),
        table=load_vectors(vectors), neighbours_of=neighbours or (),
        groups=open_groups(vectors, groups) if groups else None,
    )  # fmt: skip
    for line in said(found):
        print(line)
    print(f"evaluation: {out}")


def _say(done: dict[str, Any]) -> None:
    """One line a fact; lists and tables as JSON, warnings one a line."""
    for name, value in done.items():
        if name == "warnings":
            for warning in value:
                print(f"warning: {warning}")
            continue
        nested = isinstance(value, (dict, list, tuple))
        print(f"{name}: {json.dumps(value, ensure_ascii=False) if nested else value}")


def _spec(file: Path, pairs: list[str] | None, out: Path | None = None) -> Any:
    """Read what is counted; nothing is read for a folder that cannot be written."""
    from medmcl.cooccurrence.count.spec import load_spec
    from medmcl.core.overrides import parse_overrides
    from medmcl.core.writing import refuse_unwritable

    if out is not None:
        refuse_unwritable(out)
    return load_spec(file, parse_overrides(pairs or ()))


def _align(text: str | None) -> Any:
    from medmcl.core.config import lookup

    return None if text is None else lookup("--align", text, {"union": "union"})
