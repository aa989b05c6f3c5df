"""Functions that all rooms use: run folders, the list of methods, and commands."""
