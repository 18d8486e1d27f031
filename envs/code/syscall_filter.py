"""System calls that no program in the sandbox may make, as a filter that the kernel runs.

Namespaces and limits leave gaps: sockets that belong to no network (AF_VSOCK reaches the host of a
virtual machine), memory that counts for no process (`memfd_create`, System V), new namespaces in
which a program has rights again, and parts of the kernel in which faults are found most often.
A program gets EPERM where the table says no. Made by libseccomp, which knows every architecture.
"""

from __future__ import annotations

import errno
import tempfile
from functools import lru_cache
from typing import Any

_FORBIDDEN = """
    socket connect bind listen accept accept4
    ptrace process_vm_readv process_vm_writev pidfd_getfd kcmp process_madvise
    unshare setns mount umount2 pivot_root chroot move_mount open_tree fsopen fsmount fsconfig
    fspick mount_setattr swapon swapoff
    memfd_create shmget shmat shmctl msgget msgsnd msgctl semget semop semctl mq_open
    add_key request_key keyctl bpf perf_event_open userfaultfd io_uring_setup io_uring_enter
    io_uring_register seccomp personality modify_ldt name_to_handle_at open_by_handle_at
    fanotify_init inotify_init inotify_init1 quotactl acct reboot kexec_load init_module
    finit_module delete_module sethostname setdomainname settimeofday clock_settime adjtimex
    clock_adjtime iopl ioperm syslog nfsservctl vhangup lookup_dcookie sched_setattr
    sched_setscheduler ioprio_set mbind set_mempolicy migrate_pages move_pages
""".split()  # noqa: SIM905 (reads better than many quoted words)
# CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET of Linux.
_NEW_NAMESPACES = (
    *(0x0002_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000),
    *(0x1000_0000, 0x2000_0000, 0x4000_0000),
)


@lru_cache(maxsize=1)
def syscall_filter() -> bytes:
    """Returns the filter in the form that bubblewrap passes on to the kernel.

    Raises:
        ImportError: If pyseccomp is not installed.
        RuntimeError: If there is no libseccomp.
    """
    import pyseccomp

    refused = pyseccomp.ERRNO(errno.EPERM)
    made = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    for name in _FORBIDDEN:
        _forbid(made, refused, name)
    for flag in _NEW_NAMESPACES:
        made.add_rule(refused, "clone", pyseccomp.Arg(0, pyseccomp.MASKED_EQ, flag, flag))
    # Its flags are in memory, where a filter cannot look. The C library falls back to `clone`.
    _forbid(made, pyseccomp.ERRNO(errno.ENOSYS), "clone3")

    with tempfile.TemporaryFile() as file:
        made.export_bpf(file)
        file.seek(0)
        return file.read()


def _forbid(made: Any, action: int, name: str) -> None:
    import pyseccomp

    try:
        call = pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name)
    except (OSError, RuntimeError, ValueError):
        return  # a call that is newer than the library; programs find it in no C library either
    made.add_rule(action, call)
