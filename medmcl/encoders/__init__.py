"""Encoders: from what an adapter prepared to features and tokens; heads; towers; weights.

To add one: a file with a class that keeps the contract `medmcl.encoders.encoded.Encoder`, and a
line in `ENCODERS` (in ``build.py``); its settings in ``settings.py``, where they are checked
before torch is imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medmcl.core.lazy import lazy

if TYPE_CHECKING:
    from medmcl.encoders.build import ENCODERS as ENCODERS
    from medmcl.encoders.build import build_encoder as build_encoder
    from medmcl.encoders.encoded import layer_depth as layer_depth
    from medmcl.encoders.encoded import num_layers as num_layers
    from medmcl.encoders.settings import HeadSettings as HeadSettings
    from medmcl.encoders.settings import TowerSettings as TowerSettings
    from medmcl.encoders.towers import Head as Head
    from medmcl.encoders.towers import Towers as Towers
    from medmcl.encoders.weights import NAME_MAPS as NAME_MAPS
    from medmcl.encoders.weights import load_weights as load_weights
else:
    __getattr__, __dir__ = lazy(__name__)
