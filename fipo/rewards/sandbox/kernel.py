"""What Linux offers to shut a process in: namespaces, seccomp, Landlock, limits; with the standard library alone."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import resource
from collections.abc import Mapping, Sequence

NEW_NAMESPACES = {"mnt": 0x00020000, "uts": 0x04000000, "ipc": 0x08000000, "user": 0x10000000, "pid": 0x20000000}
NEW_NAMESPACES["net"] = 0x40000000

_MS = {"ro": 1, "nosuid": 2, "nodev": 4, "noexec": 8, "bind": 0x1000, "rec": 0x4000, "private": 0x40000}
_MNT_DETACH = 2
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_MOUNT_SETATTR = 442  # the same everywhere, as all system calls of its age
_AT_RECURSIVE, _AT_FDCWD = 0x8000, -100
_ATTRIBUTES = {"ro": 1, "nosuid": 2}

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 1, 4, 22, 36, 38
_SECCOMP_MODE_FILTER = 2

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


def _prctl(option: int, *values: object) -> None:
    arguments = [ctypes.c_ulong(value) if isinstance(value, int) else value for value in values]
    padding = [ctypes.c_ulong(0)] * (4 - len(arguments))
    _checked(_libc.prctl(ctypes.c_int(option), *arguments, *padding), f"prctl {option}")


def unshare(*names: str) -> None:
    """Move to new namespaces of these kinds; of `pid`, the children."""
    _checked(_libc.unshare(sum(NEW_NAMESPACES[name] for name in names)), f"unshare {', '.join(names)}")


def mount(source: str, target: str, kind: str = "", flags: Sequence[str] = (), options: str = "") -> None:
    """mount(2)."""
    arguments = (source.encode(), target.encode(), kind.encode() or None)
    bits = ctypes.c_ulong(sum(_MS[flag] for flag in flags))
    _checked(_libc.mount(*arguments, bits, options.encode() or None), f"mount {target}")


def pivot_root(folder: str) -> None:
    """Make `folder`, a mount, the root, and let go of the old one.

    Raises:
        OSError: refused; also on a machine whose call's number is not known here.
    """
    number = _PIVOT_ROOT.get(platform.machine())
    if number is None:
        raise OSError(errno.ENOSYS, f"pivot_root on {platform.machine()}")
    os.chdir(folder)
    _checked(_libc.syscall(number, b".", b"."), "pivot_root")
    _checked(_libc.umount2(b".", _MNT_DETACH), "umount of the old root")
    os.chdir("/")


def make_read_only(folder: str) -> None:
    """A mount and all below it, and none of their set-user-id bits counts."""
    attributes = (ctypes.c_uint64 * 4)(sum(_ATTRIBUTES.values()), 0, 0, 0)
    arguments = (_AT_FDCWD, folder.encode(), _AT_RECURSIVE, attributes, ctypes.sizeof(attributes))
    _checked(_libc.syscall(_MOUNT_SETATTR, *arguments), "mount_setattr")


def die_with_parent() -> None:
    """SIGKILL when the parent ends."""
    _prctl(_PR_SET_PDEATHSIG, 9)


def adopt_orphans() -> None:
    """What this process's descendants leave behind becomes its child."""
    _prctl(_PR_SET_SUBREAPER, 1)


def hide_memory() -> None:
    """Others of the same user can neither trace this process nor read its files in /proc."""
    _prctl(_PR_SET_DUMPABLE, 0)


def gain_no_privileges() -> None:
    """Neither this process nor what it executes gets more rights than it has."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def drop_capabilities() -> None:
    """All of them."""
    header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    _checked(_libc.capset(header, data), "capset")


def limit(limits: Mapping[str, int]) -> None:
    """Set resource limits by name (`{"AS": bytes}`), hard ones, so that they cannot be raised again."""
    for name, value in limits.items():
        kind = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(kind)[1]
        lower = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (lower, lower))


class Filter:
    """A seccomp filter, compiled by libseccomp: `refused` calls fail, the others work.

    Raises:
        OSError: libseccomp is not installed.
    """

    _ALLOW, _ERRNO, _MASKED_EQ = 0x7FFF0000, 0x00050000, 7

    class _Comparison(ctypes.Structure):
        _fields_ = (
            ("arg", ctypes.c_uint),
            ("op", ctypes.c_int),
            ("mask", ctypes.c_uint64),
            ("value", ctypes.c_uint64),
        )

    class _Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))

    def __init__(self, refused: Sequence[tuple[str, int, tuple[int, int, int] | None]]) -> None:
        """[(call, errno, (argument, mask, value) or None)]: refused where `argument & mask == value`."""
        library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
        library.seccomp_init.restype = ctypes.c_void_p
        context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(self._ALLOW)))
        for name, code, condition in refused:
            number = library.seccomp_syscall_resolve_name(name.encode())
            if number < 0:  # no such call on this machine
                continue
            given = [self._Comparison(condition[0], self._MASKED_EQ, *condition[1:])] if condition else []
            array = (self._Comparison * len(given))(*given)
            action = ctypes.c_uint32(self._ERRNO | code)
            failed = library.seccomp_rule_add_array(context, action, number, len(given), array)
            if failed:
                raise OSError(-failed, f"seccomp rule for {name}")
        file = os.memfd_create("filter")
        try:
            failed = library.seccomp_export_bpf(context, file)
            if failed:
                raise OSError(-failed, "seccomp filter")
            self._code = os.pread(file, os.fstat(file).st_size, 0)
        finally:
            os.close(file)
            library.seccomp_release(context)

    def install(self) -> None:
        """For this process and all that it starts; needs `gain_no_privileges` before."""
        program = self._Program(len(self._code) // 8, self._code)
        _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program))


class Landlock:
    """Files below some folders may be read and executed, and nothing else may be done to any file.

    Raises:
        OSError: the kernel has no Landlock.
    """

    _CREATE, _ADD_RULE, _RESTRICT = 444, 445, 446
    _EXECUTE, _READ_FILE, _READ_FOLDER = 1, 4, 8
    _RIGHTS = ((1, 13), (2, 14), (3, 15), (5, 16))
    """Of files: since which version, how many there are."""

    def __init__(self, readable: Sequence[str]) -> None:
        version = _checked(_libc.syscall(self._CREATE, None, 0, 1), "Landlock")
        rights = (1 << max(count for since, count in self._RIGHTS if since <= version)) - 1
        # Since 4 also TCP, since 6 signals and abstract sockets of others.
        attributes = (ctypes.c_uint64 * 3)(rights, 3 if version >= 4 else 0, 3 if version >= 6 else 0)
        size = 8 * (1 + (version >= 4) + (version >= 6))
        rules = _checked(_libc.syscall(self._CREATE, attributes, size, 0), "Landlock's rules")
        # Above the numbers that a program's pipes get.
        self._rules = fcntl.fcntl(rules, fcntl.F_DUPFD_CLOEXEC, 100)
        os.close(rules)
        for path in readable:
            self._allow(path)

    def _allow(self, path: str) -> None:
        place = os.open(path, os.O_PATH)
        try:
            rights = self._EXECUTE | self._READ_FILE | (self._READ_FOLDER if os.path.isdir(path) else 0)  # noqa: PTH112
            rule = rights.to_bytes(8, "little") + place.to_bytes(4, "little")
            _checked(_libc.syscall(self._ADD_RULE, self._rules, 1, rule, 0), f"Landlock's rule for {path}")
        finally:
            os.close(place)

    def install(self) -> None:
        """For this process and all that it starts; needs `gain_no_privileges` before."""
        _checked(_libc.syscall(self._RESTRICT, self._rules, 0), "Landlock")
