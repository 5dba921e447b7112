"""The factorise stage: vectors from counts, or made elsewhere."""
