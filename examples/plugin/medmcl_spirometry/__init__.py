"""Spirometry for medmcl: forced expirations as a modality, an encoder of them, a loss, a stage."""
