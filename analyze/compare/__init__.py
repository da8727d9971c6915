"""What changed from one trace to another, and whether that is allowed."""
