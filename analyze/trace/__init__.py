"""From the text of a trace to columns: what was recorded, and what is wrong with it."""
