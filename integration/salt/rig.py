#!/usr/bin/env python3
"""Runs Salt on this host: masters, each with a salt-api, and minions as ordinary processes on loopback addresses.

  rig.py up [--version 3007] [--masters 2] [--minions 6] ...    start what isn't running; prints what there is as JSON
  rig.py status | down | start NAME... | stop NAME... | kill NAME... | pause NAME... | resume NAME...
  rig.py hold ...         the same for a test: up in a directory of its own, then commands as lines on stdin, one answer
                          each ("ok" or "error: ..."); at the end of stdin everything is stopped and deleted
  rig.py install VERSION  only make the virtual environment; prints its path
  rig.py sweep            end and delete what holders left that were killed

Names: m1 and m1-api, m2 ..., mn01 ... (--ids gives minions other ids than their names). All masters have one key and accept
all minions; every minion is connected to every master. State lies below one short directory, as paths of unix sockets must.
"""
import argparse
import getpass
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from install import PINNED, InstallError, install
from procs import Procs, adopt, alive, reap, stat

USER, PASSWORD, SECRET = "sp", "sp-pw", "test-secret"
PUBLISH, RETURN, API = 14505, 14506, 14507      # ports, the same on every master's address

# Keys made beforehand: a fresh minion of 3008 with two masters makes two pairs at once and loses one of the masters.
MAKE_KEYS = """
import os, sys
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives import serialization as ser
for name in sys.argv[2:]:
    path = os.path.join(sys.argv[1], name)
    if not os.path.exists(path + ".pub"):
        key = rsa.generate_private_key(65537, 2048)
        with open(os.open(path + ".pem", os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "wb") as f:
            f.write(key.private_bytes(ser.Encoding.PEM, ser.PrivateFormat.TraditionalOpenSSL, ser.NoEncryption()))
        with open(path + ".pub", "wb") as f:
            f.write(key.public_key().public_bytes(ser.Encoding.PEM, ser.PublicFormat.SubjectPublicKeyInfo))
"""

# Pings until every minion has answered through one master; the masters' caches know all of them then.
WAIT_READY = """
import sys, time, salt.client, salt.config
opts, want, end = salt.config.master_config(sys.argv[1]), set(sys.argv[3:]), time.time() + float(sys.argv[2])
while True:
    try:
        got = salt.client.LocalClient(mopts=opts).cmd(list(want), "test.ping", tgt_type="list", timeout=2, gather_job_timeout=2)
        left = want - {k for k, v in got.items() if v is True}
    except Exception as err:
        left = repr(err)
    if not left or time.time() > end:
        break
    time.sleep(0.2)
if left:
    sys.exit(f"no answer from {left}")
"""


class RigError(Exception):
    """Says what is wrong with the rig or the command."""


def say(*words) -> None:
    print("rig:", *words, file=sys.stderr, flush=True)


class Rig:
    """Masters and minions below one directory; params.json there holds what they were started with."""

    def __init__(self, root: Path, given: dict):
        self.root = root
        self.params = {"version": "3007", "masters": 2, "minions": 6, "ids": [], "api": True, "states": "", "subnet": "",
                       "master_opts": {}, "minion_opts": {}}
        if (root / "params.json").exists():
            self.params |= json.loads((root / "params.json").read_text())
        self.params |= {k: v for k, v in given.items() if k in self.params and v is not None}
        p = self.params
        p["version"] = PINNED.get(p["version"], p["version"])
        self.procs = Procs(root)
        ids = p["ids"] + [f"mn{i:02d}" for i in range(len(p["ids"]) + 1, p["minions"] + 1)]
        self.minions = {f"mn{i:02d}": ident for i, ident in enumerate(ids, 1)}
        self.masters = [f"m{i}" for i in range(1, p["masters"] + 1)]
        self.states = Path(p["states"] or root / "states")
        self.venv = Path()

    def address(self, master: str) -> str:
        return f"{self.params['subnet']}.{master[1:]}"

    def daemons(self) -> list[str]:
        masters = [n for m in self.masters for n in ((m, f"{m}-api") if self.params["api"] else (m,))]
        return masters + list(self.minions)

    # ---- files

    def _base(self, name: str, ident: str) -> dict:
        """What masters and minions have in common."""
        home = self.root / name
        for sub in ("conf", "pki", "run", "logs", "cache"):
            (home / sub).mkdir(parents=True, exist_ok=True)
        return {"id": ident, "user": getpass.getuser(), "root_dir": str(home), "pki_dir": "pki", "cachedir": "cache",
                "sock_dir": "run", "log_file": "logs/log", "log_level": "warning", "log_level_logfile": "warning"}

    def _write(self, name: str, kind: str, conf: dict) -> None:
        (self.root / name / "conf" / kind).write_text(json.dumps(conf, indent=1) + "\n")      # JSON is YAML

    def configure(self) -> None:
        """Writes all configuration, pillar and users."""
        if len(str(self.root)) > 60:
            raise RigError(f"{self.root} is too long a name: the path of a unix socket has at most 107 characters")
        (self.root / "users.txt").write_text(f"{USER}:{PASSWORD}\n")
        pillar = self.root / "pillar"
        for d in (pillar, self.states / "_modules"):
            d.mkdir(parents=True, exist_ok=True)
        (pillar / "top.sls").write_text("base:\n  '*': [rig]\n")
        (pillar / "rig.sls").write_text("rig: up\nrigid: {{ grains.id | tojson }}\n"
                                        "tier: {{ 'front' if grains.n % 2 else 'back' }}\n")
        for m in self.masters:
            self._write(m, "master", self._master(m, pillar) | self.params["master_opts"])
        addresses = [self.address(m) for m in self.masters]
        for i, (name, ident) in enumerate(self.minions.items(), 1):
            self._write(name, "minion", self._base(name, ident) | {
                "master": addresses, "master_port": RETURN, "publish_port": PUBLISH, "pidfile": "run/minion.pid",
                "acceptance_wait_time": 1, "mine_enabled": False, "enable_fqdns_grains": False, "enable_gpu_grains": False,
                "grains": {"role": "web" if i % 2 else "db", "n": i}, "random_startup_delay": 0, "loop_interval": 1,
                "sp_wrapper_state": str(self.root / name / "sp_wrapper"),   # the machines are one host: locks would meet
            } | self.params["minion_opts"])

    def _master(self, m: str, pillar: Path) -> dict:
        rights = [".*", "@runner", "@wheel", "@jobs"]
        return self._base(m, m) | {
            "interface": self.address(m), "publish_port": PUBLISH, "ret_port": RETURN, "pidfile": "run/master.pid",
            "api_pidfile": "run/api.pid", "api_logfile": "logs/api.log", "key_logfile": "logs/key.log", "token_dir": "tokens",
            "fileserver_backend": ["roots"], "file_roots": {"base": [str(self.states)]},
            "pillar_roots": {"base": [str(pillar)]}, "worker_threads": 3, "timeout": 3, "gather_job_timeout": 3,
            "keep_jobs_seconds": 3600, "nodegroups": {"web": "G@role:web", "first": "L@" + ",".join(list(self.minions.values())[:2])},
            "sharedsecret": SECRET,
            "netapi_enable_clients": ["local", "local_async", "local_batch", "runner", "runner_async", "wheel", "wheel_async"],
            "external_auth": {"sharedsecret": {USER: rights}, "file": {"^filename": str(self.root / "users.txt"), USER: rights}},
            "rest_cherrypy": {"host": self.address(m), "port": API, "disable_ssl": True, "thread_pool": 30},
        }

    def keys(self) -> None:
        """One pair for all masters and one for each minion, accepted by every master."""
        keys = self.root / "keys"
        keys.mkdir(exist_ok=True)
        subprocess.run([self.venv / "bin/python", "-c", MAKE_KEYS, keys, "master", *self.minions], check=True)
        for m in self.masters:
            pki = self.root / m / "pki"
            shutil.rmtree(pki / "minions", ignore_errors=True)      # an earlier `up` may have had others
            (pki / "minions").mkdir()
            for ext in ("pem", "pub"):
                shutil.copy2(keys / f"master.{ext}", pki)
            for name, ident in self.minions.items():
                shutil.copy2(keys / f"{name}.pub", pki / "minions" / ident)
        for name in self.minions:
            for ext in ("pem", "pub"):
                shutil.copy2(keys / f"{name}.{ext}", self.root / name / "pki" / f"minion.{ext}")

    def choose_addresses(self) -> None:
        """Finds a part of 127/8 where nobody has the ports."""
        p = self.params
        for subnet in [p["subnet"]] if p["subnet"] else [f"127.{random.randrange(60, 250)}.{random.randrange(1, 250)}" for _ in range(20)]:
            p["subnet"] = subnet
            if any(self.procs.pid(m) for m in self.masters) or all(_free(self.address(m)) for m in self.masters):
                return
        raise RigError(f"another process has port {PUBLISH}, {RETURN} or {API} on {p['subnet']}.*: `rig.py down` where it was started, or give --subnet")

    # ---- commands

    def up(self, wait: float) -> dict:
        """Installs, configures, starts what isn't running and waits until all minions answer each master."""
        self.venv = install(self.params["version"], say)
        began = time.monotonic()
        self.root.mkdir(parents=True, exist_ok=True, mode=0o755)
        self.choose_addresses()
        (self.root / "params.json").write_text(json.dumps(self.params))
        self.configure()
        self.keys()
        self.start(self.daemons())
        self.ready(wait)
        say(f"ready after {time.monotonic() - began:.1f} s")
        text = json.dumps(self.info(), indent=1)
        (self.root / "rig.json").write_text(text + "\n")
        return self.info()

    def start(self, names: list[str]) -> None:
        self.venv = self.venv if self.venv.name else install(self.params["version"], say)
        env = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8",
               "HOME": os.path.expanduser("~"), "PYTHONWARNINGS": "ignore"}
        for n in names:
            kind = "api" if n.endswith("-api") else "master" if n in self.masters else "minion"
            home = self.root / n.removesuffix("-api")
            if not self.procs.pid(n):   # Salt takes a zombie, where no init reaps it, for one that still runs
                (home / "run" / f"process_responsibility_{kind}.pid").unlink(missing_ok=True)
            # Without --disable-keepalive a minion has a parent that starts it again: it ends itself to get a master back.
            argv = [self.venv / "bin" / f"salt-{kind}", "-c", home / "conf", *(["--disable-keepalive"] if kind == "master" else [])]
            self.procs.start(n, argv, home / "logs" / f"{n}.out", env)

    def ready(self, seconds: float) -> None:
        """Waits until all minions have answered through each master and each salt-api takes connections."""
        end = time.monotonic() + seconds
        for m in self.masters:
            got = subprocess.run([self.venv / "bin/python", "-c", WAIT_READY, self.root / m / "conf/master",
                                  str(max(1.0, end - time.monotonic())), *self.minions.values()],
                                 stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            if got.returncode:
                self._not_ready(f"{m}: {got.stderr.strip()[-500:]}")
            while self.params["api"] and not _connects(self.address(m), API):
                if time.monotonic() > end:
                    self._not_ready(f"{m}-api takes no connection")
                time.sleep(0.1)

    def _not_ready(self, why: str) -> None:
        dead = [n for n in self.daemons() if not self.procs.pid(n)]
        raise RigError(f"not ready: {why}; not running: {dead or 'none'}; logs are below {self.root}/*/logs")

    def info(self) -> dict:
        """What a test or a person needs to use the rig."""
        return {"version": self.params["version"], "dir": str(self.root), "python": str(self.venv / "bin/python"),
                "bin": str(self.venv / "bin"), "states": str(self.states),
                "masters": [{"name": m, "address": self.address(m), "conf": str(self.root / m / "conf"),
                             "pki": str(self.root / m / "pki"),
                             "api": f"http://{self.address(m)}:{API}" if self.params["api"] else ""} for m in self.masters],
                "minions": [{"name": n, "id": i, "conf": str(self.root / n / "conf"), "pki": str(self.root / n / "pki")}
                            for n, i in self.minions.items()],
                "credentials": [{"username": USER, "password": SECRET, "eauth": "sharedsecret"},
                                {"username": USER, "password": PASSWORD, "eauth": "file"}]}

    def status(self) -> dict:
        out = {}
        for n in self.daemons():
            members = self.procs.members([n])
            out[n] = {"pid": self.procs.pid(n), "processes": len(members), "rss_mb": sum(map(_rss, members))}
        return out

    def down(self) -> None:
        """Ends everything: what was started, and what Salt started."""
        started = self.procs.names()
        self.procs.signal(started, signal.SIGCONT)
        masters = [n for n in started if n.split("-")[0] in self.masters]
        self.procs.stop([n for n in started if n not in masters], wait=8)
        self.procs.stop(masters, wait=8)
        self.procs.kill_marked()

    def do(self, command: str, names: list[str]) -> None:
        """One of the commands on parts of the rig."""
        unknown = [n for n in names if n not in self.daemons()]
        if unknown or not names:
            raise RigError(f"unknown name {', '.join(unknown)}; there are {', '.join(self.daemons())}" if unknown else "which? " + ", ".join(self.daemons()))
        match command:
            case "start":
                self.start(names)
            case "stop":
                self.procs.stop(names)
            case "kill":
                self.procs.kill(names)
            case "pause":
                self.procs.signal(names, signal.SIGSTOP)
            case "resume":
                self.procs.signal(names, signal.SIGCONT)
            case _:
                raise RigError(f"unknown command {command}")


def _free(address: str) -> bool:
    for port in (PUBLISH, RETURN, API):
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind((address, port))
            except OSError:
                return False
    return True


def _connects(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=1).close()
    except OSError:
        return False
    return True


def _rss(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") >> 20
    except OSError:
        return 0


# ---- for tests

def hold(args) -> None:
    """Brings a rig up for the one at the other end of stdin, and down when that has gone."""
    sweep()
    adopt()
    os.setsid()     # what ends the test's process group must not end this one before it has cleaned up
    for s in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(s, _interrupted)
    root = Path(tempfile.mkdtemp(prefix="sp-salt-"))
    (root / "holder").write_text(f"{os.getpid()} {stat(os.getpid())[2]}\n")
    root.chmod(0o755)
    rig = Rig(root, vars(args))
    try:
        print(json.dumps(rig.up(args.timeout)), flush=True)
        for line in sys.stdin:
            command, *names = line.split()
            try:
                rig.do(command, names)
                print("ok", flush=True)
            except (RigError, OSError) as err:
                print(f"error: {err}", flush=True)
    except (KeyboardInterrupt, BrokenPipeError):
        pass
    except (RigError, InstallError) as err:
        print(f"error: {_one_line(rig, err)}", flush=True)
        sys.exit(1)
    finally:
        rig.down()
        reap()
        shutil.rmtree(root, ignore_errors=True)


def _one_line(rig: Rig, err: Exception) -> str:
    """An error with the ends of the logs, which are deleted with the rig."""
    parts = [str(err)]
    for log in sorted(rig.root.glob("*/logs/*")):
        parts += [f"{log.parent.parent.name}/{log.name}: {ln}" for ln in log.read_text(errors="replace").splitlines()[-3:]]
    return json.dumps("\n".join(parts))


def _interrupted(*_):
    raise KeyboardInterrupt


def sweep() -> None:
    """Ends and deletes what holders left that were killed."""
    for holder in Path(tempfile.gettempdir()).glob("sp-salt-*/holder"):
        try:
            pid, started = holder.read_text().split()
            if holder.stat().st_uid != os.getuid() or alive(pid, started):
                continue
        except (OSError, ValueError):
            continue
        say("a holder was killed; ending what it left in", holder.parent)
        Rig(holder.parent, {}).down()
        shutil.rmtree(holder.parent, ignore_errors=True)


def main() -> None:
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("command", choices=["up", "down", "status", "start", "stop", "kill", "pause", "resume", "hold", "install", "sweep"])
    ap.add_argument("names", nargs="*", help="parts of the rig: m1, m1-api, mn01 ...; install: a version")
    ap.add_argument("--dir", type=Path, default=Path(tempfile.gettempdir()) / f"sp-salt-up-{os.getuid()}", help="state (default %(default)s)")
    ap.add_argument("--version", help=f"{', '.join(PINNED)} or a full one (default 3007)")
    ap.add_argument("--masters", type=int, help="default 2")
    ap.add_argument("--minions", type=int, help="default 6")
    ap.add_argument("--ids", type=json.loads, help="JSON list of the first minions' ids")
    ap.add_argument("--api", action=argparse.BooleanOptionalAction, help="salt-api beside each master (default yes)")
    ap.add_argument("--states", help="the masters' file_roots, with _modules below it (default below --dir)")
    ap.add_argument("--subnet", help="first three numbers of the masters' addresses (default: one that is free)")
    ap.add_argument("--master-opts", type=json.loads, help="JSON object laid over every master's configuration")
    ap.add_argument("--minion-opts", type=json.loads, help="JSON object laid over every minion's configuration")
    ap.add_argument("--timeout", type=float, default=120, help="seconds to wait for all minions (default 120)")
    args = ap.parse_args()
    try:
        run(args)
    except (RigError, InstallError) as err:
        sys.exit(f"rig: {err}")


def run(args) -> None:
    if args.command == "hold":
        return hold(args)
    if args.command == "sweep":
        return sweep()
    if args.command == "install":
        for version in args.names or PINNED:
            print(install(PINNED.get(version, version), say))
        return
    rig = Rig(args.dir.resolve(), vars(args))
    if args.command == "up":
        print(json.dumps(rig.up(args.timeout), indent=1))
        return
    if not (rig.root / "params.json").exists():
        raise RigError(f"nothing was started in {rig.root}")
    if args.command == "down":
        rig.down()
        shutil.rmtree(rig.root, ignore_errors=True)
        say("stopped and deleted", rig.root)
    elif args.command == "status":
        print(json.dumps(rig.status(), indent=1))
    else:
        rig.do(args.command, args.names)


if __name__ == "__main__":
    main()
