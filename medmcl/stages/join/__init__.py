"""The join stage."""
