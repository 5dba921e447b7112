"""The report: its figures, tables, checklist and model card."""
