"""From a profiler trace to exact figures: pure functions over columns, one module a question."""
