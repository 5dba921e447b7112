"""Events of patients: MEDS, OMOP, Synthea, tables, notes."""
