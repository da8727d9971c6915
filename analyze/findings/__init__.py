"""What to do next, and how much it would bring."""
