"""Small counts for tests, and whether two counts hold the same numbers."""

import json

import numpy as np

from medmcl.cooccurrence import Vocabulary, count_tokens

VERSIONS = {"codes": "codes 2025", "concepts": "concepts 7"}


def vocabularies(d1, d2):
    return {
        name: Vocabulary(tuple(f"{name}:{i}" for i in range(size)), VERSIONS[name])
        for name, size in (("codes", d1), ("concepts", d2))
    }


def tables(seed=0, n=60, d1=6, d2=5, rate=0.4):
    generator = np.random.default_rng(seed)
    return generator.poisson(rate, (n, d1)), generator.poisson(rate, (n, d2))


def some_counts(seed=0, n=60, d1=6, d2=5, rate=0.4, within=True, patients=True):
    x1, x2 = tables(seed, n, d1, d2, rate)
    return count_tokens(x1, x2, within=within, patients=patients, vocabularies=vocabularies(d1, d2))


def numbers(counts):
    """Everything that is compared, as plain values."""

    def plain(one):
        return None if one is None else np.asarray(one).tolist()

    margins = {
        name: (plain(m.tokens), plain(m.pairs), plain(m.patients))
        for name, m in counts.margins.items()
    }
    blocks = {
        pair: [None if x is None else x.toarray().tolist() for x in (b.pairs, b.patients)]
        for pair, b in counts.blocks.items()
    }
    words = {name: (one.version, one.tokens) for name, one in counts.vocabularies.items()}
    facts = (counts.units, counts.patients, counts.window, counts.pairing)
    return words, margins, blocks, facts, (counts.min_patients, counts.noise_sd)


def edit(folder, change):
    """Change the manifest of saved counts: ``change`` is called with its values."""
    path = folder / "manifest.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))
