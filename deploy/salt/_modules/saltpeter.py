"""
Starts Saltpeter's wrapper on this machine.

Saltpeter publishes ``saltpeter.launch`` where this module is installed, and ``cmd.run_all`` with the same meaning elsewhere. What it
gives is the same for all minions and holds no command: the wrapper proves with this minion's key who it is and gets its
command from a Saltpeter node.
"""

import os

import salt.utils.platform
from salt.exceptions import CommandExecutionError

__virtualname__ = "saltpeter"

WRAPPER = "/usr/local/bin/sp_wrapper"


def __virtual__():
    if salt.utils.platform.is_linux():
        return __virtualname__
    return False, "sp_wrapper runs on Linux only"


def launch(launch_id, cluster, urls, token, pin, window="1m", identity="salt-key", wrapper=WRAPPER, limit=30, **kwargs):
    """
    Start the wrapper of a launch, detached: it outlives this job and the minion. Returns at once, ``{"ok": True}``, and an error
    where it can't be started. Meant for Saltpeter, not for people.

    CLI Example:

    .. code-block:: bash

        salt web01 saltpeter.launch 20261123000000000001 UUID wss://10.0.0.5:8889 TOKEN PIN
    """
    argv = [wrapper, "launch", "--id", str(launch_id), "--machine", str(__opts__["id"]), "--cluster", cluster,
            "--urls", urls, "--token", token, "--pin", pin, "--window", window, "--identity", identity]
    if identity == "salt-key":
        argv += ["--key", os.path.join(__opts__["pki_dir"], "minion.pem")]
    state = __opts__.get("sp_wrapper_state")
    if state:
        argv += ["--state", str(state)]
    _run(argv, limit)
    return {"ok": True}


def version(wrapper=WRAPPER):
    """
    Tell the version of the wrapper on this machine.

    CLI Example:

    .. code-block:: bash

        salt '*' saltpeter.version
    """
    return _run([wrapper, "version"], 10).split(" ", 1)[-1]


def _run(argv, limit):
    """Runs the wrapper in the environment that cmd.run gives, and gives its output."""
    wrapper = argv[0]
    if not os.access(wrapper, os.X_OK) or os.path.isdir(wrapper):
        raise CommandExecutionError(
            f"sp_wrapper is not at {wrapper}: salt {__opts__['id']} state.apply saltpeter.wrapper"
        )
    try:
        got = __salt__["cmd.run_all"](
            argv, python_shell=False, shell="/bin/sh", cwd="/", timeout=limit, output_loglevel="quiet"
        )
    except CommandExecutionError:  # its text may hold the minion's whole environment
        raise CommandExecutionError(f"{wrapper} can't be executed here: is it for another architecture?") from None
    if got["retcode"]:
        raise CommandExecutionError(got["stderr"] or got["stdout"] or f"{wrapper} ended with code {got['retcode']}")
    return got["stdout"]
