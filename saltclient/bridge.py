"""The bridge: does for a Saltpeter node what only Salt's own Python on a master's host can.

Run by the interpreter that Salt is installed in, with the master's configuration directory as its argument. One JSON object
a line: requests on stdin, answers and events on stdout, log records on stderr. Ends with its stdin. Standard library and
Salt alone; the same text works on 3006, 3007 and 3008.

  <- {"event": "hello", "protocol": 1, "salt": "3007.14", "pid": 1, "host": "salt01"}     first, once Salt is loaded
  -> {"id": 1, "op": "publish", "expires": 12.5, ...}     expires: CLOCK_BOOTTIME in s, after which nobody wants it any more
  <- {"id": 1, "ok": ...}  or  {"id": 1, "error": "text", "class": "expression"}     "part" before "ok" where there is a lot
  <- {"event": "return", "jid": ..., "minion": ..., "return": ..., "retcode": 0, "success": true}    of jids published here
  <- {"event": "bus", "up": true}      the master's event bus is heard, or not
  <- {"event": "fatal", "error": "text"}

Publishing and asking the master may take until the request expires; what needs only files goes past them, by threads of its
own. Nothing here retries: whoever asks knows what is safe.
"""
import collections
import glob
import json
import logging
import os
import queue
import socket
import sys
import threading
import time

PROTOCOL = 1
PUBLISHERS, READERS = 8, 4          # threads
TRACKED = 20000                     # jids whose returns are passed on
LONGEST = 4 << 20                   # characters of one string of a return
HEARTBEAT, SILENCE = 5.0, 15.0      # s: between own events on the bus; until a silent bus counts as lost
TYPES = ("glob", "pcre", "list", "grain", "grain_pcre", "pillar", "pillar_pcre", "nodegroup", "range", "compound", "ipcidr")

log = logging.getLogger("bridge")


class Refusal(Exception):
    """An answer that is an error of one of the classes unreachable, doubtful, denied, expression, nokey, failed."""

    def __init__(self, kind, text):
        super().__init__(text)
        self.kind = kind


class Lines:
    """What goes to the node. Salt prints to stdout, so that is turned to stderr first."""

    def __init__(self):
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        self._lock = threading.Lock()
        os.dup2(2, 1)

    def send(self, **fields):
        line = json.dumps(fields, default=_plain) + "\n"
        with self._lock:
            self._out.write(line)
            self._out.flush()


def _plain(value):
    """What JSON can't say: bytes, sets, Salt's own types."""
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).decode("utf-8", "replace")
    if isinstance(value, (set, frozenset, tuple)):
        return list(value)
    return str(value)


def _short(value):
    """A return with its long strings cut."""
    if isinstance(value, str) and len(value) > LONGEST:
        return value[:LONGEST] + "... (%d characters left out)" % (len(value) - LONGEST)
    if isinstance(value, dict):
        return {str(_plain(k) if isinstance(k, bytes) else k): _short(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_short(v) for v in value]
    return value


class Records(logging.Handler):
    """Passes log records on to stderr and keeps those of a thread that asked for it: Salt says only there what is wrong
    with an expression."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self._mine = threading.local()

    def emit(self, record):
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            text += ": %s" % record.exc_info[1]
        kept = getattr(self._mine, "kept", None)
        if kept is not None and record.name == "salt.utils.minions" and record.levelno >= logging.ERROR:
            kept.append((record, text))
            return
        sys.stderr.write("%s %s: %s\n" % (record.levelname, record.name, " ".join(text.split())))
        sys.stderr.flush()

    def keep(self):
        self._mine.kept = []

    def kept(self):
        kept, self._mine.kept = self._mine.kept, None
        return kept


class Config:
    """The master's options, read again when its files have changed. Each thread keeps what it makes of them."""

    def __init__(self, directory):
        self.file = os.path.join(directory, "master")
        self._lock = threading.Lock()
        self._looked = 0.0
        self._files = self._salt = None
        self._local = threading.local()
        self.opts = None
        self._check()

    def _check(self):
        with self._lock:
            if self.opts is not None and time.monotonic() - self._looked < 1:
                return
            self._looked = time.monotonic()
            files = self._stamp([self.file] + sorted(glob.glob(os.path.join(os.path.dirname(self.file), "master.d", "*"))))
            installed = self._stamp([salt.version.__file__, os.path.join(os.path.dirname(salt.version.__file__), "_version.txt")])
            if self._salt not in (None, installed):
                log.warning("Salt was upgraded: ending to be started with the new one")
                os._exit(0)
            if files != self._files:
                self.opts = self._read()
            self._files, self._salt = files, installed

    @staticmethod
    def _stamp(files):
        out = []
        for name in files:
            try:
                st = os.stat(name)
                out.append((name, st.st_mtime_ns, st.st_size))
            except OSError:
                out.append((name, None, None))
        return out

    def _read(self):
        if not os.access(self.file, os.R_OK):
            raise Refusal("denied" if os.path.exists(self.file) else "failed", "%s can't be read; is a salt-master configured here, and may this user read it?" % self.file)
        opts = salt.config.master_config(self.file)
        opts["request_channel_tries"] = 1       # every wait has one deadline
        return opts

    def get(self, make):
        """What make(opts) gave this thread, made again when the options are new."""
        self._check()
        have = self._local.__dict__.get(make)
        if have is None or have[0] is not self.opts:
            have = self._local.__dict__[make] = (self.opts, make(self.opts))
        return have[1]

    def drop(self, make):
        """Has it made again: its state after an error is unknown."""
        self._local.__dict__.pop(make, None)


# ---- made of the options, one for each thread

def local_client(opts):
    return salt.client.LocalClient(mopts=opts)


def matcher(opts):
    return salt.utils.minions.CkMinions(opts)


def key_cache(opts):
    """Where 3008 may keep keys otherwise than as files."""
    driver = opts.get("keys.cache_driver")
    if not driver or driver == "localfs_key":
        return None
    return salt.cache.Cache(opts, driver=driver)


class Bridge:
    """Does what requests ask for."""

    def __init__(self, config, lines, records, bus):
        self.config, self.lines, self.records, self.bus = config, lines, records, bus

    def do(self, request):
        """Answers one request."""
        answer = {"id": request.get("id")}
        try:
            if left(request) <= 0:
                raise Refusal("unreachable", "the request was too old when it was its turn")
            answer["ok"] = getattr(self, "op_" + request["op"])(request)
        except Refusal as err:
            answer.update(error=str(err), **{"class": err.kind})
        except Exception as err:    # whatever Salt raises is an answer; the bridge goes on
            answer.update(error="%s: %s" % (type(err).__name__, err), **{"class": classify(err)})
            log.debug("request failed", exc_info=True)
        self.lines.send(**answer)

    def op_resolve(self, request):
        """The minions that an expression matches by what the master has in its caches."""
        return self._matched(request["type"], request["text"])

    def _matched(self, kind, text):
        if kind not in TYPES:
            raise Refusal("expression", "unknown target type %r; there are %s" % (kind, " ".join(TYPES)))
        expression = text if kind == "list" else text[0]
        self.records.keep()
        try:
            got = self.config.get(matcher).check_minions(expression, kind)
        finally:
            kept = self.records.kept()
        for record, said in kept:
            broken = isinstance(record.exc_info[1] if record.exc_info else None, OSError) or "while evaluating" in record.msg
            raise Refusal("failed" if broken else "expression", said)
        return {"minions": sorted(got["minions"]), "missing": sorted(got.get("missing") or [])}

    def op_publish(self, request):
        """Publishes under the given jid; the minions that the master expects to do it."""
        kind, text = request["type"], request["text"]
        if kind not in TYPES:
            raise Refusal("expression", "unknown target type %r; there are %s" % (kind, " ".join(TYPES)))
        client = self.config.get(local_client)
        if not client.key and not client._LocalClient__read_master_key():
            raise Refusal("denied", "the master's key for local users below %s can't be read: run as root or as the master's user" % client.opts["cachedir"])
        self.bus.track(request["jid"])
        args = salt.utils.args.condition_input([], request["kwarg"] or None)
        try:
            got = client.pub(text if kind == "list" else text[0], request["fun"], args, kind, jid=request["jid"],
                             timeout=max(0.5, left(request) - 0.3))
        except salt.exceptions.SaltReqTimeoutError:
            self.config.drop(local_client)
            raise Refusal("doubtful", "the master did not answer the publish in time")
        except salt.exceptions.SaltClientError as err:
            # Bare it is raised before anything is sent: the master's socket is not there.
            raise Refusal("unreachable", str(err) or "no master runs here: its socket below %s is not there" % client.opts["sock_dir"])
        if not got:
            raise Refusal("denied", "the master does not take the key of its local user: run as root or as the master's user")
        if not got.get("minions"):
            self._matched(kind, text)       # raises where nothing matches because the expression is wrong
        return {"minions": sorted(got.get("minions") or [])}

    def op_lookup(self, request):
        """What the master's job cache has of a jid, a part for each minion."""
        client = self.config.get(local_client)
        got = client.returners[client.opts["master_job_cache"] + ".get_jid"](request["jid"])
        for minion, ret in got.items():
            self.lines.send(id=request["id"], part={"minion": minion, "return": _short(ret.get("return")),
                                                    "retcode": ret.get("retcode"), "success": ret.get("success")})
        return {}

    def op_key(self, request):
        """The key that the master has accepted for a minion."""
        minion = request["minion"]
        if not minion or minion.startswith(".") or any(c in minion for c in "/\\\0"):
            raise Refusal("nokey", "%r can't be a minion's id" % minion)
        cache = self.config.get(key_cache)
        if cache is not None:
            entry = cache.fetch("keys", minion) or {}
            if entry.get("state") == "accepted":
                return {"pem": entry["pub"]}
            raise Refusal("nokey", "the master has accepted no key of %r" % minion)
        try:
            with open(os.path.join(self._accepted(), minion), encoding="ascii") as f:
                return {"pem": f.read(64 << 10)}
        except FileNotFoundError:
            raise Refusal("nokey", "the master has accepted no key of %r" % minion)

    def _accepted(self):
        opts = self.config.opts
        return os.path.join(opts["cluster_pki_dir"] if opts.get("cluster_id") else opts["pki_dir"], "minions")

    def op_health(self, request):
        """Asks a worker of the master to send a word back."""
        opts = self.config.get(dict)
        uri = "tcp://%s:%s" % (salt.utils.network.ip_bracket(opts["interface"]), opts["ret_port"])
        with salt.channel.client.ReqChannel.factory(opts, crypt="clear", master_uri=uri) as channel:
            got = channel.send({"cmd": "ping"}, timeout=max(0.5, left(request) - 0.3))
        if not isinstance(got, dict) or got.get("cmd") != "ping":
            raise Refusal("unreachable", "the master sent no sensible answer to a ping: %r" % (got,))
        return {"salt": salt.version.__version__, "filtered": bool(opts.get("zmq_filtering")), "bus": self.bus.up,
                "job_cache": bool(opts.get("job_cache", True)), "keys": len(self.config.get(matcher)._pki_minions())}


def left(request):
    """Seconds until a request expires."""
    return request["expires"] - time.clock_gettime(time.CLOCK_BOOTTIME)


def classify(err):
    """The class of an error that Salt raised, where nothing was published."""
    ex = salt.exceptions
    if isinstance(err, (ex.AuthenticationError, ex.AuthorizationError, ex.EauthAuthenticationError, PermissionError)):
        return "denied"
    if isinstance(err, ex.SaltInvocationError):
        return "expression"
    if isinstance(err, (ex.SaltReqTimeoutError, ex.SaltClientError, ConnectionError)):
        return "unreachable"
    return "failed"


class Bus(threading.Thread):
    """Listens to the master's event bus, in its own thread as Salt's subscriber wants, and tells of returns.

    A subscriber that lost its master is silent like a quiet bus; so an event of our own is sent round now and then, and when
    none comes back for long the subscription is made anew."""

    def __init__(self, config, lines):
        super().__init__(name="bus", daemon=True)
        self.config, self.lines, self.up = config, lines, False
        self._tracked, self._lock = collections.OrderedDict(), threading.Lock()

    def track(self, jid):
        """Has the returns of a jid passed on."""
        with self._lock:
            self._tracked[jid] = True
            self._tracked.move_to_end(jid)
            while len(self._tracked) > TRACKED:
                self._tracked.popitem(last=False)

    def run(self):
        while True:
            try:
                self._listen()
            except Exception as err:    # of a master that goes away, anything may come
                log.debug("bus: %s", err)
            self._say(False)
            time.sleep(1)

    def _say(self, up):
        if up != self.up:
            self.up = up
            self.lines.send(event="bus", up=up)

    def _listen(self):
        opts = self.config.get(dict)
        tag = "saltpeter/bridge/%d" % os.getpid()
        with salt.utils.event.get_event("master", sock_dir=opts["sock_dir"], opts=opts, listen=True) as events:
            sent, heard = 0.0, time.monotonic()
            while time.monotonic() - heard < SILENCE:
                if time.monotonic() - sent > (HEARTBEAT if self.up else 1):
                    sent = time.monotonic()
                    events.fire_event({"at": time.time()}, tag)
                event = events.get_event(wait=1, full=True)
                if event is None:
                    continue
                heard = time.monotonic()
                if event["tag"] == tag:
                    self._say(True)
                elif "/ret/" in event["tag"]:
                    self._returned(event["data"])

    def _returned(self, data):
        jid, minion = str(data.get("jid", "")), data.get("id")
        with self._lock:
            if jid not in self._tracked or not minion:
                return
        self.lines.send(event="return", jid=jid, minion=minion, retcode=data.get("retcode"), success=data.get("success"),
                        **{"return": _short(data.get("return"))})


def serve(bridge):
    """Takes requests until stdin ends."""
    queues = {"publish": queue.SimpleQueue(), "health": queue.SimpleQueue(), "": queue.SimpleQueue()}
    for kind, count in (("publish", PUBLISHERS), ("health", 1), ("", READERS)):
        for _ in range(count):
            threading.Thread(target=_work, args=(bridge, queues[kind]), daemon=True).start()
    for line in sys.stdin:
        request = json.loads(line)
        queues.get(request["op"], queues[""]).put(request)


def _work(bridge, requests):
    while True:
        bridge.do(requests.get())


def main():
    lines, records = Lines(), Records()
    logging.getLogger().addHandler(records)
    logging.getLogger().setLevel(logging.WARNING)
    try:
        load()
        config = Config(sys.argv[1])
        bus = Bus(config, lines)
        lines.send(event="hello", protocol=PROTOCOL, salt=salt.version.__version__, pid=os.getpid(), host=socket.gethostname())
    except Exception as err:    # the node shall say why, however Salt is broken
        lines.send(event="fatal", error="%s: %s" % (type(err).__name__, err))
        return
    bus.start()
    try:
        serve(Bridge(config, lines, records, bus))
    finally:
        os._exit(0)     # threads may be waiting for a master that is gone


def load():
    """Imports Salt, which takes its time and may fail."""
    global salt
    import salt.cache
    import salt.channel.client
    import salt.client
    import salt.config
    import salt.exceptions
    import salt.utils.args
    import salt.utils.event
    import salt.utils.minions
    import salt.utils.network
    import salt.version


if __name__ == "__main__":
    main()
