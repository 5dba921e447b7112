"""Figures of training: embeddings, gradients, learned graphs."""
