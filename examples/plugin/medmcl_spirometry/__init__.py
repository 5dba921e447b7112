"""Spirometry for medmcl: forced expirations as a modality, an encoder, a loss, a stage, a model."""
