"""Groups of rows: clusters of embeddings, accumulated over stages, and when to stop."""

from __future__ import annotations

from medmcl.grouping.groups import Groups, accumulate, product
from medmcl.grouping.kmeans import Clusters, choose_clusters, kmeans, nearest_centre
from medmcl.grouping.merging import merge_small, pool_small
from medmcl.grouping.stopping import added, share_below

__all__ = [
    "Clusters",
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
