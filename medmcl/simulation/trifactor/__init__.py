"""The simulated cohort of three factors of unequal ease."""
