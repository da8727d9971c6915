"""What the program is: steps and their phases, layers, CUDA graphs, compiled regions."""
