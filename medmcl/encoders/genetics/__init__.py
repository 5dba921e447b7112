"""Encoders of genotypes."""
