"""verl's own text, for what only that says."""

import inspect


def source(function):
    """Its text with blanks made one, so that a line may be broken elsewhere."""
    return " ".join(inspect.getsource(function).split())
