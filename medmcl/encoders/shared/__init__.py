"""One tower for all modalities, with experts."""
