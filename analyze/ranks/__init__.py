"""What several ranks do to each other: communication, and who waits for whom."""
