"""CUDA kernels for GPT-2, how they are compiled and launched, and the custom operators over them."""
