"""Paired choice as an aspect: do a cohort's statements each find their own of two images?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from typing_extensions import override

from medmcl.core.findings import counted
from medmcl.evaluation.aspects.aspect import Aspect, OfModels

if TYPE_CHECKING:
    import numpy as np

    from medmcl.data.cohort.choices import Choice
    from medmcl.data.cohort.cohort import Cohort
    from medmcl.evaluation.aspects.scene import Scene
    from medmcl.evaluation.protocol.evaluation import Found


class PairedChoiceSpec(OfModels):
    """Pairs of the cohort's ``choices:``: does each statement find its own of two images?"""

    image: str
    text: str

    @override
    @classmethod
    def assumed(cls, asked: Mapping[str, Any], cohort: Cohort) -> Self | None:
        """Score a cohort's pairs by the towers of ``zero_shot``, where no models are named."""
        near = asked.get("zero_shot")
        if not cohort.choices or near is None:
            return None
        return cls(models={near.stage: near.stage}, image=near.modality, text=near.text)

    @override
    def modalities(self) -> tuple[str, ...]:
        return self.image, self.text


class PairedChoice(Aspect[PairedChoiceSpec]):
    """The share of pairs whose statements both find their own image.

    Scored are pairs of which both samples may be scored and have image and text; of another cohort
    than the run's own all samples may where it has no held-out split, but for people of whom the
    run learned from an image, or from a text that others have not, too (a statement it may know).
    Pairs that lack a side are counted in the notes.
    """

    Settings = PairedChoiceSpec
    has_rows = True
    page = "medmcl.evaluation.aspects.paired_choice.figures"

    @override
    def measure(self, spec: PairedChoiceSpec, scene: Scene) -> Found:
        import numpy as np

        from medmcl.evaluation.aspects.paired_choice.measure import compare_choices
        from medmcl.evaluation.protocol.evaluation import Found

        found, prepared = Found(), scene.prepared
        choices = prepared.cohort.choices
        if not choices:
            found.notes.append(
                "paired choice: the cohort has no `choices:`, pairs of samples to tell apart"
            )
            return found
        scored = np.zeros(len(prepared.splits), dtype=bool)
        scored[scene.scored(fits=False)] = True
        complete = scored & prepared.present[spec.image] & prepared.present[spec.text]
        used = {name: _whole(one, scored, complete, found.notes) for name, one in choices.items()}
        used = {name: rows for name, rows in used.items() if len(rows)}
        vectors = {
            label: (scene.vectors(stage, spec.image), scene.vectors(stage, spec.text))
            for label, stage in (spec.models.items() if used else ())
        }
        for name, chosen in used.items():
            attribute = choices[name].attribute
            found.results += compare_choices(
                {label: (image[chosen], text[chosen]) for label, (image, text) in vectors.items()},
                choices[name].pair[chosen],
                None if attribute is None else attribute[chosen],
                resampling=scene.resampling.take(chosen),
                task=name,
            )
        return found


def _whole(
    choice: Choice, scored: np.ndarray, complete: np.ndarray, notes: list[str]
) -> np.ndarray:
    """Samples of pairs that have both sides, in the cohort's order; says how many have not."""
    import numpy as np

    in_pair = np.array([one is not None for one in choice.pair], dtype=bool)
    names, code = np.unique(choice.pair[in_pair].astype(str), return_inverse=True)
    asked = np.bincount(code, scored[in_pair], minlength=len(names)) > 0
    sides = np.bincount(code, complete[in_pair], minlength=len(names))
    whole = (sides == 2) & (np.bincount(code, minlength=len(names)) == 2)
    lost = int((asked & ~whole).sum())
    if not asked.any():
        notes.append(f"paired choice, {choice.name}: no pair lies in what is scored")
    elif lost:
        notes.append(
            f"paired choice, {choice.name}: {lost:,} of {counted(int(asked.sum()), 'pair')} not "
            "scored, as a side lacks its image or its text, or may not be scored"
        )
    return np.flatnonzero(in_pair)[whole[code]]
