"""Stages that derive embeddings from those of earlier stages."""
