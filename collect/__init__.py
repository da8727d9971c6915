"""Runs instrumented GPT-2 variants and saves their profiler traces, each with a run manifest."""
