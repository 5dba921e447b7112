"""Whether what a private release claims of its noise can be true; needs no OpenDP.

A reader cannot see the patients, but can see that a claim contradicts itself: noise of scale sigma
on cells that move by the sensitivity costs rho = (sensitivity / sigma)^2 / 2 at least, bounds that
were chosen from the patients cost what they say on top, and rho comes to no smaller epsilon than
the Gaussian mechanism's own (Balle and Wang, ICML 2018, theorem 8), below which no conversion can
go. Of noise in shares only those of the honest sites count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy.special import log_ndtr

from medmcl.cooccurrence.exchange.manifest import PrivateKeys
from medmcl.core.errors import ArtefactError

_ROUNDING = 1e-6


def check_private(keys: PrivateKeys, modalities: Sequence[str], where: object) -> None:
    """Refuse a private release whose claims contradict one another.

    Raises:
        ArtefactError: Names the first claim that cannot be true, and what it is at least.
    """
    if list(keys.clip) != list(modalities):
        _lie("clip", ", ".join(keys.clip), ", ".join(modalities), where)
    product = math.prod(keys.clip.values())
    if keys.sensitivity != product:
        _lie("sensitivity", keys.sensitivity, f"{product}, the product of the clips", where)
    for name, chosen in keys.clip_chosen.items():
        if keys.clip.get(name, math.inf) > chosen.longest:
            _lie(f"clip of {name}", keys.clip.get(name), f"at most {chosen.longest}", where)
    bounds = math.fsum(chosen.rho for chosen in keys.clip_chosen.values())
    least = (keys.sensitivity / _counted_noise(keys, where)) ** 2 / 2 + bounds
    if keys.rho < least * (1 - _ROUNDING):
        _lie("rho", keys.rho, f"{least:.6g} or more at this sensitivity and sigma", where)
    claims = [("epsilon", keys.rho, keys.epsilon, keys.delta)]
    if keys.spent is not None:
        if keys.spent.releases < 1 or keys.spent.rho < keys.rho * (1 - _ROUNDING):
            _lie("spent.rho", keys.spent.rho, f"{keys.rho:.6g} or more: this release alone", where)
        claims.append(("spent.epsilon", keys.spent.rho, keys.spent.epsilon, keys.spent.delta))
    for what, rho, epsilon, delta in claims:
        if least_delta(rho, epsilon) > delta * (1 + _ROUNDING):
            _lie(what, epsilon, f"more, at rho {rho:.6g} and delta {delta:g}", where)


def _counted_noise(keys: PrivateKeys, where: object) -> float:
    """The noise that the promise rests on: all of it, or that of the honest sites."""
    shares = keys.shares
    if (keys.spent is None) != (shares is not None):
        expected = "what one ledger says where one site added the noise, nothing where several did"
        _lie("spent", keys.spent, expected, where)
    if shares is None:
        return keys.sigma
    sites = len(set(shares.sites))
    if sites < len(shares.sites) or not shares.honest < sites:
        _lie("shares", f"{shares.honest} honest of {', '.join(shares.sites)}",
             "different sites, all but one of them honest at most", where)  # fmt: skip
    sigma = shares.each * math.sqrt(sites)
    if abs(keys.sigma - sigma) > _ROUNDING * sigma:
        _lie("sigma", keys.sigma, f"{sigma:.6g}, the shares together", where)
    return shares.each * math.sqrt(shares.honest)


def least_delta(rho: float, epsilon: float) -> float:
    """The delta that Gaussian noise of this rho has at ``epsilon``, exactly.

    Phi(m / 2 - epsilon / m) - e^epsilon Phi(-m / 2 - epsilon / m), m = sqrt(2 rho).
    """
    if rho == 0:
        return 0.0
    m = math.sqrt(2 * rho)
    inside = float(log_ndtr(m / 2 - epsilon / m))
    outside = epsilon + float(log_ndtr(-m / 2 - epsilon / m))
    return math.exp(inside) - math.exp(outside)


def _lie(what: str, got: object, expected: object, where: object) -> None:
    raise ArtefactError(
        f"the manifest does not tell the truth about: {what}",
        where=where,
        got=got,
        expected=expected,
        fix="have it sent again, or made anew: medmcl cooccur release-private",
    )
