"""What happened when: busy and idle time, its causes, launches, operators and kernels."""
