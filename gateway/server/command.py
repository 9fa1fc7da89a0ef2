"""The command line of the gateway process."""

from __future__ import annotations

import asyncio
import ctypes
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from gateway.server.app import serve
from gateway.server.config import GatewayConfig
from gateway.server.logs import log_json
from kandinsky.catalog.entry import CatalogError

DEFAULT = GatewayConfig()


def _die_with_parent() -> None:
    set_parent_death_signal = 1  # PR_SET_PDEATHSIG, linux/prctl.h
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(set_parent_death_signal, signal.SIGTERM)


def run(
    listen: Annotated[str, typer.Option(help="host:port to serve on.")] = DEFAULT.listen,
    stages: Annotated[str, typer.Option(help="host:port of the stages.")] = DEFAULT.stages,
    model: Annotated[list[str] | None, typer.Option(help="A model to serve; repeat.")] = None,
    catalog: Annotated[list[Path] | None, typer.Option(help="Folder of entries; repeat.")] = None,
    max_requests: Annotated[int, typer.Option()] = DEFAULT.max_requests,
    max_jobs: Annotated[int, typer.Option()] = DEFAULT.max_jobs,
    request_bytes: Annotated[int, typer.Option()] = DEFAULT.request_bytes,
    read_seconds: Annotated[float, typer.Option()] = DEFAULT.read_seconds,
    write_seconds: Annotated[float, typer.Option()] = DEFAULT.write_seconds,
    default_deadline_seconds: Annotated[float, typer.Option()] = DEFAULT.default_deadline_seconds,
    codec_threads: Annotated[int, typer.Option()] = DEFAULT.codec_threads,
    input_pixels: Annotated[int, typer.Option()] = DEFAULT.input_pixels,
    input_wait_seconds: Annotated[float, typer.Option()] = DEFAULT.input_wait_seconds,
    patience_seconds: Annotated[float, typer.Option()] = DEFAULT.patience_seconds,
    probe_seconds: Annotated[float, typer.Option()] = DEFAULT.probe_seconds,
    drain_seconds: Annotated[float, typer.Option()] = DEFAULT.drain_seconds,
    log_file: Annotated[Path | None, typer.Option(help="Log here, not to stderr.")] = None,
    die_with_parent: Annotated[bool, typer.Option(help="Drain when the parent ends.")] = False,
) -> None:
    """Serve the public API over the stages."""
    if die_with_parent:
        _die_with_parent()
    log_json(log_file)
    try:
        config = GatewayConfig(
            listen=listen,
            stages=stages,
            models=tuple(model or DEFAULT.models),
            catalog=tuple(catalog or ()),
            max_requests=max_requests,
            max_jobs=max_jobs,
            request_bytes=request_bytes,
            read_seconds=read_seconds,
            write_seconds=write_seconds,
            default_deadline_seconds=default_deadline_seconds,
            codec_threads=codec_threads,
            input_pixels=input_pixels,
            input_wait_seconds=input_wait_seconds,
            patience_seconds=patience_seconds,
            probe_seconds=probe_seconds,
            drain_seconds=drain_seconds,
        )
        asyncio.run(serve(config))
    except ValidationError as error:
        first = error.errors()[0]
        _fail(f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
    except (CatalogError, OSError) as error:
        _fail(str(error))


def _fail(sentence: str) -> None:
    sys.stderr.write(sentence + "\n")
    raise SystemExit(1)
