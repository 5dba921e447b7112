"""Pair graphs: which modalities are aligned, given or learned."""
