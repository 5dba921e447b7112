"""Column expressions of cohort.yaml."""
