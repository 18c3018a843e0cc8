"""How far a process of the sandbox is shut in: by namespaces where the kernel allows them, else by what is left.

The launcher goes into namespaces of its own once, as their process 1, with a root that holds an interpreter and nothing
else. Each program is one more process there, with a mount, network and IPC namespace of its own, without rights.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fipo.rewards.sandbox import kernel

NOBODY = 65534
TMP_BYTES, TMP_FILES = 16 << 20, 256
LIBRARIES = ("/usr/lib", "/usr/lib64", "/lib", "/lib64")
DEVICES = ("null", "zero", "full", "random", "urandom")

_THREAD = 0x00010000
_OPEN_TO_WRITE = (os.O_WRONLY, os.O_RDWR, os.O_CREAT, os.O_TRUNC)

_OTHERS = """kill tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo pidfd_open pidfd_send_signal pidfd_getfd ptrace
process_vm_readv process_vm_writev process_madvise kcmp prlimit64 sched_setaffinity sched_setscheduler sched_setattr
setpriority ioprio_set"""
_PROCESSES = "fork vfork socket io_uring_setup io_uring_enter io_uring_register"
_MEMORY = "memfd_create memfd_secret shmget shmat msgget semget mq_open userfaultfd mlock mlock2 mlockall"
_KERNEL = """mount umount2 pivot_root chroot unshare setns open_tree move_mount fsopen fsconfig fsmount fspick
mount_setattr bpf perf_event_open add_key keyctl request_key init_module finit_module delete_module kexec_load
kexec_file_load reboot swapon swapoff acct quotactl syslog open_by_handle_at name_to_handle_at lookup_dcookie iopl
ioperm modify_ldt personality vhangup settimeofday clock_settime adjtimex clock_adjtime sethostname setdomainname"""
_WRITING = """creat mkdir mkdirat mknod mknodat rename renameat renameat2 link linkat symlink symlinkat unlink unlinkat
rmdir chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat truncate setxattr lsetxattr fsetxattr removexattr
lremovexattr fremovexattr utime utimes utimensat futimesat"""


@dataclass(frozen=True, slots=True)
class Isolation:
    """What holds a program in, besides the limits."""

    namespaces: bool
    """User, mount, process, network, IPC and host-name namespaces, and a root of its own."""
    seccomp: bool
    """No other process, no socket, no signal to others; without namespaces no change to any file either."""
    landlock: bool
    """No file but the interpreter's can be read; only where namespaces are refused."""

    @property
    def is_complete(self) -> bool:
        """Whether all that this sandbox has is in force."""
        return self.namespaces and self.seccomp

    def __str__(self) -> str:
        names = {"namespaces": self.namespaces, "seccomp": self.seccomp, "Landlock": self.landlock}
        return ", ".join([*(name for name, is_there in names.items() if is_there), "limits"])


def enter_namespaces() -> None:
    """Go on in new namespaces as their process 1, on a read-only root; the process that called waits for it to end.

    Raises:
        OSError: the kernel, or whoever confines us already, refuses.
    """
    own = (os.geteuid(), os.getegid())
    write_maps = _in_a_child(lambda parent: _write_maps(parent, *own))
    kernel.unshare("user", "mnt", "pid", "net", "ipc", "uts")
    write_maps()
    first = os.fork()
    if first:
        _, status = os.waitpid(first, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 0x7F)
    kernel.die_with_parent()
    _make_root()
    kernel.hide_memory()


def _in_a_child(work: Callable[[int], None]) -> Callable[[], None]:
    """Have a child, which stays in these namespaces, do something to its parent as soon as the result is called."""
    parent = os.getpid()
    ready, go = os.pipe()
    child = os.fork()
    if not child:
        code = 1
        try:
            os.close(go)
            os.read(ready, 1)
            work(parent)
            code = 0
        finally:
            os._exit(code)

    def do() -> None:
        os.close(go)
        os.close(ready)
        if os.waitpid(child, 0)[1]:
            raise OSError(errno.EPERM, "the users of the new namespace cannot be mapped")

    return do


def _write_maps(process: int, user: int, group: int) -> None:
    """Root keeps itself, to read what it may, and can become nobody; another user is nobody from the start."""
    folder = Path(f"/proc/{process}")
    if user:
        (folder / "setgroups").write_text("deny")
    for name, own in (("uid_map", user), ("gid_map", group)):
        (folder / name).write_text(f"{NOBODY} {own} 1\n" if user else f"0 {own} 1\n{NOBODY} {NOBODY} 1\n")


def _make_root() -> None:
    """A root with the interpreter, the system's libraries, a few devices and an empty /tmp; nothing can be written."""
    root = "/tmp"  # any folder will do: the mount hides it in this namespace only
    kernel.mount("none", "/", flags=("rec", "private"))
    places = {name: str(Path(name).readlink()) if Path(name).is_symlink() else "" for name in _readable()}
    kernel.mount("tmpfs", root, "tmpfs", ("nosuid",), "mode=755,size=64k")
    try:
        for place, link in places.items():
            inside = Path(root + place)
            inside.parent.mkdir(parents=True, exist_ok=True)
            if link:
                inside.symlink_to(link)
                continue
            inside.mkdir() if Path(place).is_dir() else inside.touch()
            kernel.mount(place, str(inside), flags=("bind", "rec"))
        Path(root, "tmp").mkdir()
    except FileNotFoundError as error:  # an interpreter below /tmp, which the new root hides
        raise OSError(errno.ENOENT, str(error)) from error
    kernel.pivot_root(root)
    kernel.make_read_only("/")


def _readable() -> list[str]:
    """What an interpreter needs to start: its own folder, shared libraries, devices without memory."""
    interpreter = {os.path.realpath(place) for place in (sys.base_prefix, sys.base_exec_prefix)}
    if "/usr" in interpreter:
        interpreter = {"/usr/bin", *(f"/usr/lib/python3.{sys.version_info.minor}",)}
    wanted = [*LIBRARIES, *sorted(interpreter), "/etc/ld.so.cache", *(f"/dev/{name}" for name in DEVICES)]
    found: list[str] = []
    for place in sorted(filter(os.path.exists, wanted)):
        if not any(place.startswith(f"{outer}/") for outer in found):
            found.append(place)
    return found


def program_filter(*, may_write: bool) -> kernel.Filter | None:
    """What a program may not ask of the kernel; None where libseccomp is missing.

    Args:
        may_write: whether the root holds nothing that could be changed.
    """
    names = " ".join((_OTHERS, _PROCESSES, _MEMORY, _KERNEL, "" if may_write else _WRITING)).split()
    refused: list[tuple[str, int, tuple[int, int, int] | None]] = [(name, errno.EPERM, None) for name in names]
    # Threads are made with the same call as processes; a filter cannot see the newer call's arguments, so it is gone.
    refused += [("clone", errno.EPERM, (0, _THREAD, 0)), ("clone3", errno.ENOSYS, None)]
    refused += [("prctl", errno.EPERM, (0, 0xFFFFFFFF, 1))]  # PR_SET_PDEATHSIG
    if not may_write:
        refused += [("open", errno.EPERM, (1, flag, flag)) for flag in _OPEN_TO_WRITE]
        refused += [("openat", errno.EPERM, (2, flag, flag)) for flag in _OPEN_TO_WRITE]
        refused += [("openat2", errno.ENOSYS, None)]
    try:
        return kernel.Filter(refused)
    except OSError:
        return None


def file_rules() -> kernel.Landlock | None:
    """Only the interpreter can be read; None where the kernel has no Landlock."""
    try:
        return kernel.Landlock(_readable())
    except OSError:
        return None


def enter_program_namespaces() -> None:
    """For one program: an empty /tmp that goes with it, and no network or IPC that another has touched; no rights."""
    kernel.unshare("mnt", "net", "ipc")
    kernel.mount("tmpfs", "/tmp", "tmpfs", ("nosuid", "nodev", "noexec"), f"size={TMP_BYTES},nr_inodes={TMP_FILES}")
    os.chdir("/tmp")
    if os.getuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
