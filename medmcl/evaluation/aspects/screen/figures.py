"""The figure of a screening: ROC curves of detectors against a manifest."""

from __future__ import annotations

from medmcl.evaluation.aspects.screen.evidence import Screened
from medmcl.evaluation.report.pictures import COLUMN, DASHES, Picture, colour, drawing, shorten


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
            title="Do the detectors find the poisoned rows?",
            aid=f"ROC curves over {len(truth):,} rows, {poisoned:,} poisoned and {clean:,} clean: "
            "as more rows are flagged, the most suspect first, the share of poisoned ones that are "
            "found (up) against the share of clean ones that are flagged with them (right). Along "
            "the grey line flags are as good as chance; a curve below it ranks poisoned rows as "
            "less odd than clean ones. The legend gives the area under each.",
            lead="ROC curves of detectors",
            said=[f"{row[0]}: AUROC {row[1]}" for row in rows],
            header=("detector", "AUROC (95 % interval)", "poisoned", "clean", "note"),
            rows=rows,
            narrow=True,
        )
