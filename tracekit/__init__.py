"""tracekit turns a PyTorch profiler trace into an answer: where the time goes, why, and what to do about it."""

__version__ = "0.1.0"
