"""Tasks: metrics, evidence and figures."""
