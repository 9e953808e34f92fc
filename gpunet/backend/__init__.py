"""Devices, memory, threads, random numbers and kernels: the only place that imports CuPy or loads compiled code."""
