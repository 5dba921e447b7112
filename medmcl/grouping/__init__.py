"""Groups of rows: clusters of embeddings, accumulated over stages, and when to stop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medmcl.core.lazy import lazy

if TYPE_CHECKING:
    from medmcl.grouping.clusters import choose_clusters, kmeans, nearest_centre
    from medmcl.grouping.groups import Groups, accumulate, product
    from medmcl.grouping.merging import merge_small, pool_small
    from medmcl.grouping.stopping import added, share_below
else:
    __getattr__, __dir__ = lazy(__name__)

__all__ = [
    "Groups",
    "accumulate",
    "added",
    "choose_clusters",
    "kmeans",
    "merge_small",
    "nearest_centre",
    "pool_small",
    "product",
    "share_below",
]
