"""How several ranks affect each other: how they communicate, and which rank waits for which."""
