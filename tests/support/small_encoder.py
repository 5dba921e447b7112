"""The published ECG encoder of Turgut et al. as one narrow block, for tests of what is around it.

Its own numbers are those of the golden files, at its full size.
"""

from contextlib import contextmanager

import pytest
import torch
from published_weights import save

from medmcl.encoders.published.card import read_card
from medmcl.encoders.published.settings import settings_of
from medmcl.encoders.published.turgut_ecg import TurgutECG, TurgutECGSettings

WIDTH = 24
SIZES = {"width": WIDTH, "depth": 1, "heads": 2}


def weights_of(pool, seed=0):
    """Weights of a variant, drawn from a seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = TurgutECG(**TurgutECGSettings(pool=pool, **SIZES).model_dump())
        return {name: x + 0.2 * torch.randn_like(x) for name, x in net.state_dict().items()}


@contextmanager
def small_encoder(folder):
    """``turgut_ecg`` is small meanwhile; give a file of weights of ``global_pool``."""
    # an encoder keeps the card that it was made by: where cards were read anew, it is another
    cards = {id(one): one for one in (read_card("turgut_ecg"), settings_of("turgut_ecg").card)}
    with pytest.MonkeyPatch.context() as patch:
        for settings in (one for card in cards.values() for one in card.variants.values()):
            for key, size in SIZES.items():
                patch.setitem(settings, key, size)
        yield save(weights_of("global_pool"), folder / "w.pth", "model")
