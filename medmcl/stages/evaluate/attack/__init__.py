"""Models of a run asked about its attack."""
