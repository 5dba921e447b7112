"""A whole tower from a local file: its encoder, and the projection into the shared space."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from medmcl.core.config import lookup
from medmcl.core.errors import ArtefactError, ConfigError
from medmcl.encoders.name_maps import open_clip_projection
from medmcl.encoders.towers import Tower
from medmcl.encoders.weights import NAME_MAPS, LoadReport, fit_weights, read_weights

PROJECTIONS = {"open_clip": open_clip_projection}
"""Name maps whose files hold projections, and what takes one out."""
WHOLE = frozenset(PROJECTIONS)
"""Name maps that must fill the whole encoder: half of a tower that others trained means nothing."""


def load_tower(tower: Tower, path: str | Path, names: str, *, head: bool = False) -> LoadReport:
    """Load a tower from a file, and say what did not fit.

    Args:
        tower: Its encoder takes what the file has; a ``open_clip`` file must fill all of it.
        path: Local file, as `medmcl.encoders.weights.load_weights` reads it.
        names: Name in `NAME_MAPS`.
        head: Whether the projection comes from the file as well.

    Returns:
        What became of the file; ``share`` is of the encoder.

    Raises:
        ConfigError: There is no such name map, it knows no projections, or the tower has no head
            of that form.
        ArtefactError: The file cannot be read, does not fit, or has no projection.
    """
    source = Path(path)
    mapped = lookup("name map", names, NAME_MAPS)
    if head:
        require_projections(names)
    state = read_weights(source)
    if head:
        _load_head(tower, PROJECTIONS[names](state, tower.encoder), source)
    least = 1.0 if names in WHOLE else 0.5
    return fit_weights(tower.encoder, mapped(state, tower.encoder), source, least=least)


def require_projections(names: str, where: object = None) -> None:
    """Refuse a name map whose files hold no projection that a head could take."""
    if names not in PROJECTIONS:
        raise ConfigError(
            f"the name map '{names}' knows no projections",
            where=where,
            expected=", ".join(sorted(PROJECTIONS)),
            fix="leave out head: true; the head then starts from the seed",
        )


def _load_head(tower: Tower, found: dict[str, Tensor], source: Path) -> None:
    if not found:
        raise ArtefactError(
            "holds no projection of this tower", where=source, fix="leave out head: true"
        )
    if len(found["weight"].shape) != 2:
        raise ArtefactError(
            "the projection is no matrix", where=source, got=tuple(found["weight"].shape)
        )
    out, width = found["weight"].shape
    own = {} if tower.head is None else tower.head.state_dict()
    wanted = {f"layers.0.{part}": value for part, value in found.items()}
    has = {name: tuple(value.shape) for name, value in own.items()}
    if has != {name: tuple(value.shape) for name, value in wanted.items()}:
        form = f"{{layers: 1, bias: {str('bias' in found).lower()}, out: {out}}}"
        raise ConfigError(
            "the tower's head is not the projection of the file",
            where=source,
            got=", ".join(f"{name} {shape}" for name, shape in has.items()) or "no head",
            expected=f"a linear map from {width} features: head: {form}",
        )
    tower.head.load_state_dict(wanted)  # type: ignore[union-attr]  # its names are not empty
