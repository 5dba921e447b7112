"""What is fitted on embeddings: probes, survival models, neighbours and baselines."""
