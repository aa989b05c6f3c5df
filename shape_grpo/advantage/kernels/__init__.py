"""Triton kernels, each beside a reference of the same signature in `naive`."""
