"""medmcl: multimodal contrastive learning on medical cohorts."""
