"""The simulated heart cohort: one state a subject, seen by ECG and cardiac MR."""
