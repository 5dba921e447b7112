"""What a cohort says of its genotypes, and how a recipe prepares and disturbs them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field, field_validator

from medmcl.core.config import Config, Probability

Label = str | int | float | bool


class GeneticsSource(Config):
    """What a cohort says of its genotypes: one fileset holds everybody (or a batch of them)."""

    reader: Literal["plink", "pgen", "dosages"]
    column: str | None = None
    """Column with a person's name in the files; the subject id if not given."""
    individual: Literal["iid", "fid_iid"] = "iid"
    """PLINK: what people are called."""
    controls: dict[str, Label] | None = None
    """Column to the value of those in whom Hardy-Weinberg equilibrium is tested; all if none."""
    ancestry: str | None = None
    """Column of the ancestry; equilibrium is tested in each apart."""
    gives: Literal["dosages", "components"] = "dosages"

    def named_cells(self) -> Iterable[str]:
        """Columns that say in whom genotypes are judged together."""
        return [*(self.controls or ()), *([] if self.ancestry is None else [self.ancestry])]

    @field_validator("controls")
    @classmethod
    def _one(cls, controls: dict[str, Label] | None) -> dict[str, Label] | None:
        if controls is not None and len(controls) != 1:
            raise ValueError("name one column and its value: {case: 0}")
        return controls


class GeneticsSettings(Config):
    """How a recipe chooses and prepares variants.

    Thresholds are usual ones (Anderson et al. 2010, Nat Protoc 5:1564-1573; Marees et al. 2018, Int
    J Methods Psychiatr Res 27:e1608), judged on train people only.
    """

    variant_call_rate: Probability = 0.95
    """a variant called in a smaller share of people is left out"""
    subject_call_rate: Probability = 0.95
    """a person with a smaller share of calls cannot be used"""
    min_frequency: Annotated[float, Field(ge=0, lt=0.5)] = 0.01
    """of the rarer allele; rarer variants are left out"""
    equilibrium_p: Annotated[float, Field(ge=0, lt=1)] = 1e-6
    """a lower exact Hardy-Weinberg p leaves a variant out; 0 = none"""
    ambiguous: Literal["keep", "exclude"] = "keep"
    """A/T and C/G variants, whose strand letters cannot tell"""
    prune_r2: Annotated[float, Field(gt=0, lt=1)] | None = None
    """of two near variants in stronger linkage the later is left out"""
    prune_window: Annotated[int, Field(ge=1)] = 50
    """variants before, kept and on the chromosome, that are compared"""
    prune_for: Literal["components", "all"] = "components"
    """what is made of the pruned variants only"""
    components: Annotated[int, Field(ge=0)] = 10
    """components of ancestry, fitted on train people"""
    residualise: bool = False
    """take out of each dosage what the components explain of it"""
    panel_share: Probability = 0.9
    """another file must have this share of the variants"""


class GeneticsAugment(Config):
    """How a view disturbs genotypes: some calls are left out."""

    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """share of calls that are left out"""
