"""Installs a pinned Salt from the Python registry into a virtual environment of its own, once for all clones.

A release's own sdist carries the lock file of its dependencies; nothing else resolves to a set that works. About a minute and
230 MB for each version.
"""
import fcntl
import os
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path

# The releases that the tests were made with, one for each line that is supported; any full version may be asked for.
PINNED = {"3006": "3006.30", "3007": "3007.14", "3008": "3008.5"}

# certifi is left out because a registry may lag behind the newest bundle of CAs.
UNLOCKED = ("setuptools", "pip", "wheel", "certifi")


class InstallError(Exception):
    """Says what failed, with the end of its output."""


def cache_dir() -> Path:
    """Where virtual environments are kept, below it one for each version."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "saltpeter" / "salt"


def install(version: str, say=print) -> Path:
    """Gives the virtual environment of a version, made where it isn't there. Others that want the same one wait."""
    venv = cache_dir() / version
    if (venv / "ok").exists():
        return venv
    venv.parent.mkdir(parents=True, exist_ok=True)
    with open(venv.parent / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (venv / "ok").exists():
            began = time.monotonic()
            say(f"installing salt {version} into {venv}")
            _install(venv, version)
            say(f"installed salt {version} in {time.monotonic() - began:.0f} s")
    return venv


def _install(venv: Path, version: str) -> None:
    shutil.rmtree(venv, ignore_errors=True)
    venv.mkdir()
    pip = [venv / "bin/python", "-m", "pip", "--disable-pip-version-check"]
    _run(venv, _python(), "-m", "venv", venv)
    _run(venv, *pip, "install", "setuptools<69", "wheel")
    _run(venv, *pip, "download", "--no-deps", "--no-build-isolation", "--no-binary", "salt", "-d", "sdist", f"salt=={version}")
    sdist = next(venv.glob("sdist/salt-*.tar.gz"))
    (venv / "lock.txt").write_text("\n".join(_locked(venv, sdist, version)) + "\n")
    _run(venv, *pip, "install", "--prefer-binary", "-r", "lock.txt")
    # --no-deps: setup.py loses the markers of environments and would ask for what is Windows' alone.
    _run(venv, *pip, "install", "--no-deps", "--no-build-isolation", sdist)
    _run(venv, venv / "bin/salt", "--version")
    shutil.rmtree(venv / "sdist")
    (venv / "ok").touch()


def _python() -> str:
    """An interpreter for which all three lines have a lock file and no known fault: 3.11 or 3.10."""
    if sys.version_info[:2] in ((3, 10), (3, 11)):
        return sys.executable
    for name in ("python3.11", "python3.10"):
        if path := shutil.which(name):
            return path
    raise InstallError(f"Salt needs Python 3.11 or 3.10 here; this is {sys.version.split()[0]} and neither is in PATH")


def _locked(venv: Path, sdist: Path, version: str) -> list[str]:
    """The dependencies that the release was tested with, one requirement a line."""
    python = subprocess.run([venv / "bin/python", "-c", "import sys; print('py%d.%d' % sys.version_info[:2])"],
                            stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    with tarfile.open(sdist) as tar:
        names = [n for n in tar.getnames() if f"requirements/static/pkg/{python}/linux." in n]   # .txt or .lock
        if not names:
            raise InstallError(f"salt {version} has no lock file for {python}")
        lines = tar.extractfile(names[0]).read().decode().splitlines()
    return [ln for ln in lines if "==" in ln and not ln.lstrip().startswith("#") and ln.split("==")[0].strip() not in UNLOCKED]


def _run(venv: Path, *command) -> None:
    log = venv / "install.log"
    with open(log, "ab") as out:
        code = subprocess.run([str(c) for c in command], stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=venv).returncode
    if code:
        end = "".join(log.read_text(errors="replace").splitlines(True)[-15:])
        raise InstallError(f"{' '.join(map(str, command))} ended with {code}:\n{end}")
