"""The simulated EHR cohort."""
