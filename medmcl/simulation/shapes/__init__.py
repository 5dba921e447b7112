"""The simulated cohort of captioned shapes."""
