"""A cohort: its cohort.yaml, subjects, records, splits, outcomes."""
