"""Waits for what other processes do in their own time."""

import time


def wait_until(condition):
    """Until ``condition()`` holds; a failure is a hang of five minutes."""
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("still not so")
