"""Programs before and after one change each, for `pairs.py`: models of timm and transformers, random weights, and our own."""

from . import round_1, round_2, round_3, round_4, round_5
from .listed import PROGRAMS, Program, Step, chosen

__all__ = ["PROGRAMS", "Program", "Step", "chosen", "round_1", "round_2", "round_3", "round_4", "round_5"]
