"""A fitted `RiskModel` in one file: safetensors with what it is as JSON, and nothing that runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from medmcl.core.atomic import write_atomically
from medmcl.core.errors import ConfigError
from medmcl.core.limits import parse_json
from medmcl.core.sealed import reading
from medmcl.evaluation.models.contract import Fitted
from medmcl.evaluation.models.linear_model import LinearModel

if TYPE_CHECKING:
    from medmcl.evaluation.models.risk_model import RiskModel

SCHEMA = "medmcl/risk-model@1"
_CLASSES, _FOLLOWED, _NAMES = "classes", "followed", "feature_names"


def save_risk_model(model: RiskModel, path: Path | str) -> Path:
    """Write a fitted model; see `RiskModel.save`."""
    from safetensors.numpy import save

    check_is_fitted(model, "kind_")
    fitted, path = model._fitted, Path(path)
    if fitted.linear is None:
        raise ConfigError("this model holds rows of people and is not kept", got=model)
    classes = getattr(model, "classes_", None)
    about: dict[str, Any] = {
        "params": model.get_params(),
        "kind": model.kind_,
        "link": fitted.linear.link,
        "chosen": list(fitted.chosen),
        "notes": list(model.notes_),
        _NAMES: [str(name) for name in getattr(model, "feature_names_in_", ())],
        _CLASSES: None if classes is None else [one.item() if isinstance(one, np.generic) else one
                                                for one in classes],
        "class_type": None if classes is None else classes.dtype.str,
    }  # fmt: skip
    arrays = {name: np.ascontiguousarray(x) for name, x in fitted.linear.arrays().items()}
    if model._followed is not None and not len(fitted.linear.times):  # no event: see `times_`
        arrays[_FOLLOWED] = np.ascontiguousarray(model._followed)
    try:
        said = json.dumps(about)
    except TypeError:
        raise ConfigError(
            "the classes cannot be written as JSON",
            got=", ".join(type(one).__name__ for one in about[_CLASSES] or ()),
            expected="words, numbers or booleans",
        ) from None
    write_atomically(path, save(arrays, metadata={"schema": SCHEMA, "about": said}))
    return path


def load_risk_model(path: Path | str) -> RiskModel:
    """Read a model that `save_risk_model` wrote; see `RiskModel.load`."""
    from safetensors import safe_open

    from medmcl.evaluation.models.risk_model import RiskModel

    with (
        reading(Path(path), "is not what RiskModel.save wrote, or is damaged"),
        safe_open(str(path), framework="numpy") as file,
    ):
        header = file.metadata() or {}
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no dict
        if header.get("schema") != SCHEMA:
            raise ValueError(f"schema {header.get('schema')}, expected {SCHEMA}")
        about = parse_json(header["about"])
        model = RiskModel(**about["params"])
        model._followed = arrays.pop(_FOLLOWED, None)
        linear = LinearModel.of(about["link"], arrays)
        model._fitted = Fitted.of(linear, tuple(about["chosen"]), tuple(about["notes"]))
        model.kind_, model.n_features_in_ = about["kind"], linear.width
        model.strength_ = model._fitted.chosen[0] if model._fitted.chosen else float("nan")
        model.notes_ = model._fitted.notes
        if about[_CLASSES] is not None:
            model.classes_ = np.array(about[_CLASSES], dtype=np.dtype(about["class_type"]))
        if about[_NAMES]:
            model.feature_names_in_ = np.array(about[_NAMES], dtype=object)
    return model
