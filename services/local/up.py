"""`kandinsky up`: the whole system on this machine, for as long as this process lives."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import psutil

from kandinsky.catalog import hub, lock
from kandinsky.catalog.family import Stage
from kandinsky.cli import run_file
from kandinsky.cli.errors import console
from services.local import health, memory, preflight, ray_environment
from services.local.preflight import PreflightError

STAGES_HOST = "127.0.0.1"
DRAIN_SECONDS = 10
"""How long requests in flight may go on once a signal has come."""
STOP_SECONDS = 40
"""After this long a shutdown that hangs is cut off; the kernel then ends what is left."""

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StartError(RuntimeError):
    """Something did not start, or ended by itself; the message is one sentence."""


class Stopped(BaseException):
    """A signal asked this process to end; its argument is the signal's number."""


@dataclass(frozen=True)
class Options:
    """The options of `up`."""

    models: Sequence[str]
    catalog: Sequence[Path]
    host: str
    port: int
    """0 takes a free one."""
    stages_port: int
    """Of the stages' own proxy; 0 takes a free one."""
    replicas: Mapping[Stage, int]
    threads: int
    runtime: Path | None = None
    """How networks run, from `kandinsky tune`."""


def up(options: Options) -> int:
    """Checks, starts everything, and waits for a signal; then ends everything.

    Returns:
        The exit code: 0, or 128 + the signal's number where it came before the models served.

    Raises:
        PreflightError: a check failed; nothing was started.
        StartError: something did not start, or ended by itself; nothing of it is left.
        RunFolderError: the run folder cannot be used.
    """
    preflight.check_extras()
    _check_alone(run_file.current())  # said before the port that it holds is found taken
    plan = preflight.plan(options.models, options.catalog)
    available = memory.bytes_available(psutil.virtual_memory().available)
    preflight.check_memory(plan, options.replicas, available)
    port = preflight.check_port(options.host, options.port)
    stages_port = preflight.check_port(STAGES_HOST, options.stages_port)
    own = run_file.Running(
        pid=os.getpid(),
        started=psutil.Process().create_time(),
        address=_address(options.host, port),
        models=tuple(entry.name for entry in plan.models),
    )
    ray_environment.apply()
    from services.local import cluster  # noqa: F401 - before signals: one in an import may be lost

    serving, code = False, 0
    with ExitStack() as stack:
        _catch_signals()
        try:
            _check_alone(run_file.claim(own))
            stack.callback(run_file.release, own)
            gateway = _start(stack, options, plan, own, stages_port)
            serving = True
            _watch(gateway)
        except Stopped as stopped:
            _say("stopping")
            code = 0 if serving else 128 + stopped.args[0]
        finally:
            _ignore_signals()
            signal.alarm(STOP_SECONDS)
    return code


def _start(
    stack: ExitStack,
    options: Options,
    plan: preflight.Plan,
    own: run_file.Running,
    stages_port: int,
) -> "subprocess.Popen[bytes]":
    """Start the stages, then the gateway; give its process once it serves every model."""
    from services.local.cluster import LocalCluster, StageFailed

    for checkpoint in (each for owner in plan.owners for each in lock.moving(owner)):
        _say(hub.moving(checkpoint))
    _say(f"starting the stages of {', '.join(own.models)}")
    cluster = LocalCluster(
        plan.models,
        options.catalog,
        port=stages_port,
        replicas=options.replicas,
        threads=options.threads,
        runtime=_runtime(options.runtime),
    )
    stack.callback(cluster.stop)
    try:
        cluster.start()
    except StageFailed as error:
        raise StartError(str(error)) from error
    _say(f"the stages take calls at {cluster.stages_address}")
    gateway = stack.enter_context(_gateway(own, cluster.stages_address, options.catalog))
    try:
        for model in own.models:
            if not health.wait_until_serving(own.address, model, lambda: gateway.poll() is None):
                raise StartError(f"the gateway does not serve {model}; {_last_words()}")
    except health.AnotherServer as error:
        raise StartError(str(error)) from error
    with suppress(OSError):  # a terminal that has gone
        print(f"kandinsky serves {', '.join(own.models)} at {own.address}", flush=True)
    return gateway


def _runtime(path: Path | None) -> Mapping[str, Mapping[Stage, Mapping[str, object]]]:
    if path is None:
        return {}
    from services.local.tuning import Tuning, TuningError

    try:
        return Tuning.read(path).arguments()
    except TuningError as error:
        raise StartError(str(error)) from error


def _watch(gateway: "subprocess.Popen[bytes]") -> None:
    while gateway.poll() is None:
        time.sleep(0.5)
    raise StartError(f"the gateway ended by itself; {_last_words()}")


@contextmanager
def _gateway(
    own: run_file.Running, stages: str, catalog: Sequence[Path]
) -> Iterator["subprocess.Popen[bytes]"]:
    """The gateway's process; on leaving, it drains and ends."""
    command = [sys.executable, "-m", "gateway", "--listen", own.address, "--stages", stages]
    for model in own.models:
        command += ["--model", model]
    for folder in catalog:
        command += ["--catalog", str(folder)]
    command += ["--die-with-parent", "--drain-seconds", str(DRAIN_SECONDS)]
    command += ["--log-file", str(_log_file())]
    with _words_file().open("wb") as words:
        # A session of its own: Ctrl-C in the terminal is for `up` to hear.
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=words, stderr=words, start_new_session=True
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(DRAIN_SECONDS + 5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _catch_signals() -> None:
    stopping = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopping
        if stopping:
            return
        stopping = True
        signal.alarm(STOP_SECONDS)  # even if what is raised is swallowed, as in a destructor
        raise Stopped(number)

    for number in STOP_SIGNALS:
        signal.signal(number, stop)


def _ignore_signals() -> None:
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"  # IPv6 takes brackets


def _check_alone(other: run_file.Running | None) -> None:
    if other is not None:
        raise PreflightError(
            f"kandinsky already runs at {other.address} (process {other.pid}); "
            "end it with `kandinsky down`"
        )


def _log_file() -> Path:
    return run_file.folder() / "gateway.log"


def _words_file() -> Path:
    """What the gateway writes beside its log: why it cannot start, and gRPC's own lines."""
    return run_file.folder() / "gateway.stderr"


def _last_words() -> str:
    """The last line that the gateway wrote, else the last event of its log."""
    for file in (_words_file(), _log_file()):
        text = file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""
        last = next((line for line in reversed(text.split("\n")) if line.strip()), None)
        if last is not None:
            break
    else:
        return "it said nothing"
    try:
        return str(json.loads(last)["event"])
    except (ValueError, KeyError, TypeError):
        return last.strip()


def _say(sentence: str) -> None:
    with suppress(OSError):  # a terminal that has gone
        console.print(sentence)
