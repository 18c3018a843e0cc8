"""Run a module as fipo's containers do: `python -m tests.like_a_container MODULE [ARGUMENT ...]`, as root.

User 10001, no privileges and no way to get any, a root that is only read but for /tmp, and a seccomp filter that
refuses namespaces as the runtimes' default ones do.
"""

from __future__ import annotations

import errno
import os
import sys
import sysconfig
from pathlib import Path

from fipo.rewards.sandbox import kernel

USER = 10001
PLACES = {
    "python": Path(sys.base_prefix),
    "packages": Path(sysconfig.get_path("purelib")),
    "repository": Path(__file__).resolve().parents[1],
}
"""Seen below /mnt, for their own folders may be root's alone."""


def main() -> None:
    """Shut ourselves in, and become the module."""
    kernel.unshare("mnt")
    kernel.mount("none", "/", flags=("rec", "private"))
    kernel.mount("tmpfs", "/mnt", "tmpfs", options="mode=755")
    for name, place in PLACES.items():
        Path("/mnt", name).mkdir()
        kernel.mount(str(place.resolve()), f"/mnt/{name}", flags=("bind", "rec"))
    kernel.make_read_only("/")
    kernel.mount("tmpfs", "/tmp", "tmpfs", options="mode=1777")
    os.setgroups([])
    os.setresgid(USER, USER, USER)
    os.setresuid(USER, USER, USER)
    kernel.gain_no_privileges()
    refused = ["unshare", "setns", "mount", "umount2", "pivot_root", "mount_setattr", "fsopen", "move_mount", "bpf"]
    namespaces = [("clone", errno.EPERM, (0, flag, flag)) for flag in kernel.NEW_NAMESPACES.values()]
    kernel.Filter(
        [*((name, errno.EPERM, None) for name in refused), *namespaces, ("clone3", errno.ENOSYS, None)]
    ).install()
    os.chdir("/mnt/repository")
    python = f"/mnt/python/bin/python3.{sys.version_info.minor}"
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": "/mnt/repository:/mnt/packages", "HOME": "/tmp"}
    os.execve(python, [python, "-B", "-m", *sys.argv[1:]], environment)


if __name__ == "__main__":
    main()
