"""How much an operator computes and moves, and how long that takes at least: here, or on another device."""
