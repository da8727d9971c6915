"""CUDA kernels for GPT-2, the code that compiles and launches them, and the custom operators that call them."""
