"""Outlives the process that started Ray, and ends what Ray then leaves behind.

Most of Ray's processes die with their parent by themselves; its agents take minutes. Run as
`python -m services.local.guard FOLDER`, FOLDER being Ray's package; it ends when its standard
input is closed, which the kernel does however the parent ends.
"""

import os
import select
import sys
import time

import psutil

LOOK_SECONDS = 1.0
"""Pause between looks at what the parent has started."""
GRACE_SECONDS = 3.0
"""How long Ray's processes may take to end by themselves."""


def guard(parent: psutil.Process, folder: str) -> None:
    """Waits for the end of standard input, then kills what is left of the parent's Ray.

    Args:
        parent: the process that started Ray.
        folder: Ray's package; its processes name it in their command lines.
    """
    seen: set[psutil.Process] = set()
    while not select.select([sys.stdin], [], [], LOOK_SECONDS)[0]:
        seen |= _started_by(parent, folder)
        seen = {process for process in seen if process.is_running()}
    end = time.monotonic() + GRACE_SECONDS
    while time.monotonic() < end and any(process.is_running() for process in seen):
        time.sleep(0.1)
    for process in seen:
        try:
            process.kill()  # refuses a number that has become another process's
        except psutil.NoSuchProcess:
            continue


def _started_by(parent: psutil.Process, folder: str) -> set[psutil.Process]:
    found: set[psutil.Process] = set()
    for child in _children(parent):
        try:
            is_ray = child.pid != os.getpid() and folder in " ".join(child.cmdline())
        except psutil.Error:
            continue  # it has just ended
        if is_ray:
            found |= {child, *_children(child, recursive=True)}
    return found


def _children(process: psutil.Process, recursive: bool = False) -> list[psutil.Process]:
    try:
        found: list[psutil.Process] = process.children(recursive=recursive)
        return found
    except psutil.NoSuchProcess:
        return []


if __name__ == "__main__":
    guard(psutil.Process(os.getppid()), sys.argv[1])
