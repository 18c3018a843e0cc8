"""torchrun on one node, ending as the worker that failed first did: `python -m fipo.launch.node --module NAME ...`.

torchrun itself ends with 1 whatever the cause, after a page of traceback about itself. Whoever started it, Kubernetes
too, decides by the exit code whether another attempt makes sense.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import parse_args, run

from fipo.errors import STOPPED

SAVE_SECONDS = 270
"""How long workers that were asked to stop may take to finish their step and save, before they are killed; the pods'
`terminationGracePeriodSeconds` is a little more."""


def main(arguments: Sequence[str]) -> int:
    """Run torchrun with its own arguments and environment (`PET_*`); returns the exit code.

    A worker that a signal ended counts as 128 plus its number, as in a shell; a stop on request as `STOPPED`.
    """
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(SAVE_SECONDS))
    try:
        run(parse_args(list(arguments)))
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        code = failure.exitcode if failure.exitcode > 0 else 128 - failure.exitcode
        print(f"rank {rank} failed first, with exit code {code}", file=sys.stderr, flush=True)
        return code
    except SignalException as signal:
        print(f"stopped by {signal.sigval.name}", file=sys.stderr, flush=True)
        return STOPPED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
