"""One node of a job: `python -m fipo.launch.node --module NAME ...`, torchrun's arguments and environment.

In a pod it is the first process, which a signal without a handler does not reach. torchrun handles SIGTERM once its
workers run; before that PyTorch is imported, and other nodes may be waited for, for minutes.
"""

import os
import signal
import sys
import threading

from fipo.errors import STOPPED


def leave_when_asked() -> None:
    """End with `STOPPED` on SIGTERM, until someone else handles it: there is nothing to save yet."""
    asked, ask = os.pipe()
    os.set_blocking(ask, False)

    def wait() -> None:
        while number := os.read(asked, 1)[0]:
            if number == signal.SIGTERM and signal.getsignal(signal.SIGTERM) is noted:
                print("stopped by SIGTERM before any worker ran", file=sys.stderr, flush=True)
                os._exit(STOPPED)

    def noted(*_: object) -> None: ...

    # A handler in Python waits for the main thread, which may be within PyTorch; what Python writes here does not.
    signal.set_wakeup_fd(ask, warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, noted)
    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    leave_when_asked()
    from fipo.launch.agent import main

    sys.exit(main(sys.argv[1:]))
