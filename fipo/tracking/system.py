"""Use of processor, memory, disk, network and GPUs while a step runs, as MLflow measures it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress

_INTERVAL_SECONDS = 10.0


class SystemMetrics(threading.Thread):
    """Calls `emit({"system/cpu_utilization_percentage": …})` every ten seconds, and when stopped."""

    def __init__(self, emit: Callable[[Mapping[str, float]], None]) -> None:
        super().__init__(name="system-metrics", daemon=True)
        self._emit = emit
        self._stopped = threading.Event()

    def run(self) -> None:
        """The thread's work."""
        from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
        from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
        from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
        from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

        monitors = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
        with suppress(ImportError, RuntimeError):  # no NVIDIA GPU, or its Python bindings (nvidia-ml-py) are missing
            monitors.append(GPUMonitor())
        monitors[0].collect_metrics()  # use of the processor counts from here
        stopped = False
        while not stopped:
            stopped = self._stopped.wait(_INTERVAL_SECONDS)
            for monitor in monitors:
                monitor.clear_metrics()
                monitor.collect_metrics()
            self._emit({f"system/{name}": value for one in monitors for name, value in one.aggregate_metrics().items()})

    def stop(self) -> None:
        """Emit once more and end."""
        self._stopped.set()
        self.join()
