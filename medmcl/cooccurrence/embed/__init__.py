"""From counts to embeddings of codes and concepts."""
