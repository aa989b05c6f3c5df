"""The films' reward until the spy has noted two updates; then a judge that is down."""

import os
from pathlib import Path

from reward_fns.films import compute_score as rating

LAST_UPDATE = Path(os.environ["SPY"], "update-1")


def compute_score(**arguments):
    if LAST_UPDATE.exists():
        raise ConnectionError("the judge is down")
    return rating(**arguments)
