"""Scripts that run inside the sandbox and import nothing of the package outside this folder."""
