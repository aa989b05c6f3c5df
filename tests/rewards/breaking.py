"""A reward function that breaks its process, or not; its module imports little."""

import ctypes
import os
import signal
import sys
import threading
import time


def breaks(text):
    if text == "exits":
        sys.exit(3)
    if text == "leaves":
        os._exit(3)
    if text == "kills":
        os.kill(os.getpid(), signal.SIGKILL)
    if text == "segfaults":
        ctypes.string_at(0)
    if text == "alarm":
        signal.alarm(1)
        time.sleep(60)
    if text == "holds":
        # Python code of one call to C: no other thread of the process runs meanwhile.
        ctypes.PyDLL(None).sleep(60)
    if text == "sleeps":
        time.sleep(60)
    if text == "closes":
        os.closerange(3, 4096)
    if text == "raises":
        raise ValueError("bad")
    if text == "unpicklable":
        return (each for each in [threading.Lock()])
    return text
