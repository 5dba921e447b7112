"""Encoders: from what an adapter prepared to features and tokens; heads; towers; weights.

To add one: a file with a class that keeps the contract `medmcl.encoders.encoded.Encoder`, and a
line in `ENCODERS` (in ``build.py``); its settings in ``settings.py``, where they are checked
before torch is imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medmcl.core.lazy import lazy

if TYPE_CHECKING:
    from medmcl.encoders.build import ENCODERS, build_encoder
    from medmcl.encoders.encoded import layer_depth, num_layers
    from medmcl.encoders.settings import HeadSettings, TowerSettings
    from medmcl.encoders.towers import Head, Towers
    from medmcl.encoders.weights import NAME_MAPS, load_weights
else:
    __getattr__, __dir__ = lazy(__name__)

__all__ = [
    "ENCODERS",
    "NAME_MAPS",
    "Head",
    "HeadSettings",
    "TowerSettings",
    "Towers",
    "build_encoder",
    "layer_depth",
    "load_weights",
    "num_layers",
]
