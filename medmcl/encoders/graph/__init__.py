"""Encoders of graphs of fixed regions."""
