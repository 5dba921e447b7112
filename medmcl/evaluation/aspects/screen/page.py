"""The page of a screening: what ``medmcl check --screen`` writes for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medmcl.evaluation.aspects.screen.evidence import Screened
from medmcl.evaluation.report.captions import caption
from medmcl.evaluation.report.cards import Card, Sheet
from medmcl.evaluation.report.columns import counted, short, written
from medmcl.evaluation.report.frame import page_of
from medmcl.evaluation.report.pictures import COLUMN, DASHES, Picture, colour, drawing, shorten
from medmcl.evaluation.report.section import OPEN_ROWS, Section, Shown

ODD = (
    "Odd is not poisoned. A score says how unlike its neighbours an embedding lies among the rows "
    "of this cohort, so some rows are always the most suspect, in clean data too: a rare but right "
    "record, a bad scan or a duplicate scores high as well. Look before anything is left out."
)


def screen_page(
    found: Screened,
    suspects: Mapping[str, Sequence[Card]],
    *,
    title: str = "",
    provenance: Mapping[str, Any] | None = None,
) -> str:
    """Give the page, HTML text that needs nothing outside itself.

    Args:
        found: What was found; its first line stands below the heading.
        suspects: Detector to its most suspect rows; that by which they are listed first.
        title: Heading.
        provenance: Name to value, shown at the end.
    """
    return page_of(
        [_found(found), _looked_at(found, suspects)],
        title or f"Suspects of stage {found.stage}",
        found.lines[0],
        provenance,
    )


def _found(found: Screened) -> Section:
    return Section.of(
        "screening",
        f"Screening of {found.modality}, stage {found.stage}",
        roc_curves(found),
        tables=() if not found.judged else (_judged(found),),
        empty="Nobody says which rows are poisoned, so the detectors are not judged.",
        short="Screening",
        lines=found.lines[1:],
        warnings=(ODD,),
    )


def _judged(found: Screened) -> Shown:
    top = next(iter(found.judged.values())).top
    rows = [{"detector": name, **vars(one)} for name, one in found.judged.items()]
    notes = dict.fromkeys(one.auroc.note for one in found.judged.values() if one.auroc.note)
    return Shown.of(
        caption(__file__, "judged"),
        written(rows, "detector", ("AUROC (95 % interval)", "auroc"),
                (f"poisoned among the top {top:,}", counted("in_top")),
                ("as many by chance", lambda row: f"{row.by_chance:.3g}")),
        notes=tuple(notes),
    )  # fmt: skip


def _looked_at(found: Screened, suspects: Mapping[str, Sequence[Card]]) -> Section:
    by = next(iter(suspects))
    attacked = (
        " Pictures are shown as the stage saw them, with the triggers of the attack, and poisoned "
        "rows with the texts that it gave them."
    )
    return Section.of(
        "suspects",
        f"The most suspect rows by {by}"
        + (", and the first by each other detector" if len(suspects) > 1 else ""),
        tables=(_listed(found, by, len(suspects[by])),),
        short="Suspects",
        sheet=Sheet(
            title="Pairs to look at",
            order="The most suspect first." + (attacked if found.attack else ""),
            rows={f"By {name}": some for name, some in suspects.items()},
        ),
    )


def _listed(found: Screened, by: str, top: int) -> Shown:
    names = found.detectors
    said = () if found.is_poisoned is None else ("manifest",)
    rows = [
        {**row, "manifest": found.state(row)} for row in found.suspects(by, top).to_dict("records")
    ]
    return Shown.of(
        caption(__file__, "suspects", shown=len(rows), rows=len(found), by=by),
        written(
            rows,
            ("rank", counted(f"{by}_rank")),
            "sample",
            "subject",
            *((name, short(name)) for name in names),
            *said,
        ),
        folded="The rows and their scores" if len(rows) > OPEN_ROWS else "",
    )


def roc_curves(found: Screened) -> Picture | None:
    """Draw the ROC curve of every detector; None where nobody, or everybody, is poisoned."""
    from sklearn.metrics import roc_curve

    truth = found.is_poisoned
    if truth is None or not 0 < truth.sum() < len(truth):
        return None
    poisoned, clean = int(truth.sum()), int((~truth).sum())
    rows = [
        (name, str(one.auroc), f"{poisoned:,}", f"{clean:,}", one.auroc.note or "-")
        for name, one in found.judged.items()
    ]
    with drawing(COLUMN + 0.6, COLUMN + 0.9) as (figure, ((axes,),)):
        axes.plot([0, 1], [0, 1], color="#999999", linewidth=0.9, label="chance 0.500")
        for place, name in enumerate(found.detectors):
            false, true, _ = roc_curve(truth, found.table[name], drop_intermediate=True)
            value = found.judged[name].auroc.value
            axes.plot(
                false, true, color=colour(place), linestyle=DASHES[place % len(DASHES)],
                label=f"{shorten(name, 24)} {value:.3f}",
            )  # fmt: skip
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
        axes.set_xlabel(f"share of the {clean:,} clean rows flagged")
        axes.set_ylabel(f"share of the {poisoned:,} poisoned rows flagged")
        axes.grid()
        figure.legend(loc="outside lower left", ncols=2, fontsize=8.5, handlelength=2.6)
        return Picture.of(
            figure,
            caption(__file__, "roc", rows=len(truth), poisoned=poisoned, clean=clean),
            said=[f"{row[0]}: AUROC {row[1]}" for row in rows],
            header=("detector", "AUROC (95 % interval)", "poisoned", "clean", "note"),
            rows=rows,
            narrow=True,
        )
