"""Functions for all rooms: stamps of files, the list of methods, and errors of commands."""
