"""Groups of rows: clusters of embeddings, accumulated over stages, and when to stop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medmcl.core.lazy import lazy

if TYPE_CHECKING:
    from medmcl.grouping.clusters import choose_clusters as choose_clusters
    from medmcl.grouping.clusters import kmeans as kmeans
    from medmcl.grouping.clusters import nearest_centre as nearest_centre
    from medmcl.grouping.groups import Groups as Groups
    from medmcl.grouping.groups import accumulate as accumulate
    from medmcl.grouping.groups import added as added
    from medmcl.grouping.groups import merge_small as merge_small
    from medmcl.grouping.groups import pool_small as pool_small
    from medmcl.grouping.groups import product as product
    from medmcl.grouping.groups import share_below as share_below
else:
    __getattr__, __dir__ = lazy(__name__)
