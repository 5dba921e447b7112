"""Results by which modalities subjects have."""
