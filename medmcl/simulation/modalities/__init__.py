"""The simulated cohort of modalities that are related as a tree is."""
