"""Who is scored, with which labels, over which draws."""
