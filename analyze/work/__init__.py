"""How much an operator computes and moves, and how long that takes at least, on this device or another one."""
