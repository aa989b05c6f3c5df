"""A judge that is down."""


def compute_score(**arguments):
    raise ConnectionError("the judge is down")
