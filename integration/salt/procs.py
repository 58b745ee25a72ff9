"""Starts the rig's processes and finds all that has come of them.

Each leads a session of its own, whose number and start time are written down, and carries an environment variable that its
children inherit. A process is the rig's if it is of such a session, carries the variable or is given a configuration of the rig: daemons rename themselves
and lose the variable, wrappers that Salt starts leave the session, and somebody may have deleted what was written down.
"""
import ctypes
import os
import signal
import subprocess
import time
from pathlib import Path

MARK = "SALTPETER_SALT_RIG"


def stat(pid) -> tuple[str, int, str] | None:
    """State, session and start time of a process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None
    return fields[0], int(fields[3]), fields[19]


def alive(pid, started: str) -> bool:
    """Reports whether the very process that started then still runs; numbers are used again."""
    s = stat(pid)
    return s is not None and s[0] != "Z" and s[2] == started


def adopt() -> None:
    """Makes this process the parent of all orphans below it: in a container nobody else may reap them."""
    pr_set_child_subreaper = 36
    ctypes.CDLL(None).prctl(pr_set_child_subreaper, 1, 0, 0, 0)


def reap() -> None:
    """Takes leave of all children that have ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


class Procs:
    """The processes of one rig, by name. root/pids/NAME holds "pid starttime"."""

    def __init__(self, root: Path):
        self.root, self.pids, self.mark = root, root / "pids", f"{MARK}={root}"

    def names(self) -> list[str]:
        """All that were started and not ended by us."""
        return sorted(p.name for p in self.pids.glob("*"))

    def _recorded(self, name: str) -> tuple[int, str] | None:
        try:
            pid, started = (self.pids / name).read_text().split()
        except (OSError, ValueError):
            return None
        return int(pid), started

    def pid(self, name: str) -> int | None:
        """The process that was started under the name, if it still runs."""
        rec = self._recorded(name)
        return rec[0] if rec and alive(*rec) else None

    def members(self, names: list[str]) -> list[int]:
        """All live processes of the sessions of these names."""
        sessions = {rec[0] for n in names if (rec := self._recorded(n))}
        return [p for p, s in _processes() if s[1] in sessions]

    def marked(self) -> list[int]:
        """All live processes that carry the rig's mark."""
        return [p for p, _ in _processes() if p != os.getpid() and self._carries(p)]

    def _carries(self, pid: int) -> bool:
        try:
            return (self.mark.encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
                    or b"-c %s/" % str(self.root).encode() in Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" "))
        except OSError:
            return False

    def start(self, name: str, argv: list, log: Path, env: dict[str, str]) -> bool:
        """Starts a process unless it runs; what is left of an earlier one is ended first."""
        if self.pid(name):
            return False
        self._end([name])
        self.pids.mkdir(parents=True, exist_ok=True)
        key, _, value = self.mark.partition("=")
        with open(log, "ab") as out:
            p = subprocess.Popen([str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd="/",
                                 start_new_session=True, env={**env, key: value})
        (self.pids / name).write_text(f"{p.pid} {stat(p.pid)[2]}\n")
        return True

    def signal(self, names: list[str], sig: int) -> None:
        """Sends a signal to all of their sessions."""
        for p in self.members(names):
            _kill(p, sig)

    def stop(self, names: list[str], wait: float = 20) -> None:
        """Asks the leaders to end; after WAIT seconds ends all of their sessions."""
        for n in names:
            if pid := self.pid(n):
                _kill(pid, signal.SIGTERM)
                _kill(pid, signal.SIGCONT)
        end = time.monotonic() + wait
        while time.monotonic() < end and self.members(names):
            time.sleep(0.1)
        self._end(names)

    def _end(self, names: list[str]) -> None:
        """Kills their sessions, which may be forking meanwhile, and forgets them."""
        while left := self.members(names):
            for p in left:
                _kill(p, signal.SIGKILL)
            time.sleep(0.02)
        for n in names:
            (self.pids / n).unlink(missing_ok=True)

    def kill(self, names: list[str]) -> None:
        """Ends their sessions at once."""
        self._end(names)

    def kill_marked(self) -> None:
        """Ends at once all that carries the mark."""
        while left := self.marked():
            for p in left:
                _kill(p, signal.SIGKILL)
            time.sleep(0.02)


def _processes():
    for p in os.listdir("/proc"):
        if p.isdigit() and (s := stat(p)) and s[0] != "Z":
            yield int(p), s


def _kill(pid: int, sig: int) -> None:
    try:
        os.kill(pid, sig)
    except ProcessLookupError:
        pass
