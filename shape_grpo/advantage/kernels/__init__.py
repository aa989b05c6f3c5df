"""The Triton kernel, beside a reference of the same signature in `naive`."""
