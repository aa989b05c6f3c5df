"""Breaks the rule of the warm pool."""

import threading
import time

threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
