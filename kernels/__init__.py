"""CUDA kernels for GPT-2 and the custom operators over them; the first arrive with the `fused` variant."""
