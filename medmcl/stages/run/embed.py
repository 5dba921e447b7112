"""``medmcl embed``: what a run or a published model makes of every record, as a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medmcl.core.errors import CohortError, ConfigError
from medmcl.core.file_lock import claimed
from medmcl.core.findings import counted
from medmcl.core.sealed import plain
from medmcl.core.writing import refuse_unwritable
from medmcl.data.loading.shared_work import Shard
from medmcl.encoders.published.card import split_model
from medmcl.stages.run.folder import run_config
from medmcl.stages.run.outputs import claim_table, refuse_input

if TYPE_CHECKING:
    from medmcl.stages.run.embedding import Embedding
    from medmcl.stages.run.run import Run


@dataclass(frozen=True, kw_only=True)
class EmbedCommand:
    """The options of the command; see ``medmcl embed --help``.

    A run or a model, never both. Several processes may write one table: each with another
    ``shard``, the same one started twice too.
    """

    cohort: str
    out: Path
    run: Path | None = None
    model: str | None = None
    variant: str | None = None
    preparation: str | None = None
    modality: str | None = None
    stage: str | None = None
    space: str = "features"
    shard: str | None = None
    resume: bool = False
    overwrite: bool = False
    overrides: Mapping[str, Any] = field(default_factory=dict)
    device: str = "auto"

    def write(self) -> tuple[str, Mapping[str, str]]:
        """Embed, and write the table.

        Returns:
            What was written, for people; and stages of the run that are wrecked, with the reasons.

        Raises:
            MedmclError: Run, model, cohort or output cannot be used.
        """
        self._refuse_options()
        if self.shard is None:
            with claimed(self.out, "embeddings are being written"):
                return self._written()
        refuse_unwritable(self.out, folder=False)
        return self._written()

    def _refuse_options(self) -> None:
        if (self.run is None) == (self.model is None):
            raise ConfigError(
                "a run or a published model embeds",
                got="neither" if self.run is None else "both",
                fix="medmcl embed RUN, or medmcl embed --model NAME:FILE",
            )
        of_run = {"--stage": self.stage, "--space": self.space != "features"}
        of_model = {"--variant": self.variant, "--preparation": self.preparation}
        wrong = [key for key, given in (of_run if self.model else of_model).items() if given]
        if wrong:
            raise ConfigError(
                f"{wrong[0]} is of a {'run' if self.model else 'model'}",
                fix=f"leave out {wrong[0]}",
            )
        if self.shard is not None and self.overwrite:
            raise ConfigError(
                "--overwrite of one shard would take away what the others write",
                fix="remove the table and OUT.parts first, then start the shards",
            )

    def _written(self) -> tuple[str, Mapping[str, str]]:
        shard = None if self.shard is None else Shard.read(self.shard)
        goes_on = self.resume or shard is not None
        claim_table(self.out, overwrite=self.overwrite or goes_on)
        refuse_input(self.out, self.cohort, self.overrides)
        if self.model is not None:
            split_model(self.model, self.variant)
        if self.run is not None:
            run_config(self.run)  # before what takes seconds
        from medmcl.stages.run.embedding_parts import remove_parts, tidy_parts, write_in_parts
        from medmcl.stages.run.run import load

        run = None if self.run is None else load(self.run)
        wrecked = {} if run is None else run.wrecked
        found = self._embedding(run)
        if goes_on and self.out.exists():
            self._refuse_other_table(found)
            tidy_parts(self.out, shard)
            return f"{self.out} is whole already", wrecked
        total, usable, reasons = found.total, len(found.records), found.faults
        first = "".join(f"; record {record}: {why}" for record, why in [*reasons.items()][:1])
        if total and not usable:
            raise CohortError(
                f"none of {counted(total, found.noun)} of {found.modality} can be embedded{first}",
                where=self.cohort,
                fix="`medmcl check --cohort` names the fault of each",
            )
        if self.overwrite:
            remove_parts(self.out)
        parts = write_in_parts(found, self.out, shard=shard, resume=self.resume)
        if shard is not None and parts.missing:
            why = "of whole batches cannot be shared by more shards than that"
            return parts.told(shard, f"writes {self.out}", why), wrecked
        said = f"{counted(total, found.noun)}, {total - usable} without an embedding: {self.out}"
        return said + (f"\nthe column `quality` says why{first}" if reasons else ""), wrecked

    def _embedding(self, run: Run | None) -> Embedding:
        from medmcl.stages.run.embedding import embedding_of_model

        if run is not None:
            modality = self.modality
            return run.embedding(
                self.cohort,
                modality=modality.split(",") if modality and "," in modality else modality,
                stage=self.stage,
                space=self.space,
                device=self.device,
                overrides=self.overrides,
            )
        assert self.model is not None
        return embedding_of_model(
            self.model,
            self.cohort,
            beside=self.out.absolute().parent,
            variant=self.variant,
            preparation=self.preparation,
            modality=self.modality,
            device=self.device,
            overrides=self.overrides,
        )

    def _refuse_other_table(self, found: Embedding) -> None:
        """Refuse to go on with a table that is of something else, or does not say of what."""
        from medmcl.stages.run.embedding import provenance_of_table
        from medmcl.stages.run.embedding_parts import remove_parts

        if provenance_of_table(self.out) != plain(found.provenance):
            claim_table(self.out, overwrite=False)
        remove_parts(self.out)  # of who was killed after joining them
