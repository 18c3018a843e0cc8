"""torchrun on one node, ending as the worker that failed first did.

torchrun itself ends with 1 whatever the cause, after a page of traceback about itself, and restarts workers
(`--max-restarts`) whatever the cause. Whoever started it, Kubernetes too, decides by the exit code whether another
attempt makes sense; so does this module.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence

from torch.distributed.elastic.agent.server.api import RunResult, WorkerGroup
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher import api
from torch.distributed.run import parse_args, run

from fipo.errors import PERMANENT, STOPPED
from fipo.redaction import guard_output

SAVE_SECONDS = 270
"""How long workers that were asked to stop may take to finish their step and save, before they are killed; the pods'
`terminationGracePeriodSeconds` is a little more."""

CRASH_SECONDS = 10
"""How long the other workers may take after one crashed: there is nothing to save, and a frozen one never ends."""


class _Agent(LocalElasticAgent):
    """Restarts workers where another attempt makes sense."""

    _patience_seconds = CRASH_SECONDS

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        result: RunResult = super()._monitor_workers(worker_group)
        if any(failure.exitcode in PERMANENT | {STOPPED} for failure in result.failures.values()):
            self._remaining_restarts, self._patience_seconds = 0, SAVE_SECONDS
        return result

    def _stop_workers(self, worker_group: WorkerGroup) -> None:
        self._shutdown(timeout=self._patience_seconds)


def main(arguments: Sequence[str]) -> int:
    """Run torchrun with its own arguments and environment (`PET_*`); returns the exit code.

    A worker that a signal ended counts as 128 plus its number, as in a shell; a stop on request as `STOPPED`.
    """
    gc.freeze()  # what was imported never dies: the end of the process need not look at it
    guard_output()
    setattr(api, "LocalElasticAgent", _Agent)  # noqa: B010 - torchrun takes no other, and types may not be assigned
    # torch 2.13 else gives restarted workers the store of those before, with the addresses of the dead.
    os.environ.setdefault("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
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
