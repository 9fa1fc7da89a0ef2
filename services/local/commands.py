"""The commands `up`, `down` and `status`, which join `kandinsky` by entry point."""

import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import psutil
import typer

from kandinsky.catalog.entry import CatalogError
from kandinsky.catalog.family import Stage
from kandinsky.cli import run_file
from kandinsky.cli.address import AddressOption, resolve
from kandinsky.cli.errors import fail, fail_with
from kandinsky.client import DEFAULT_MODEL, Client
from kandinsky.wire.errors import KandinskyError

DOWN_SECONDS = 60
"""How long `down` waits for `up` to end."""

Replicas = Annotated[int, typer.Option(min=1)]


def up(
    model: Annotated[list[str] | None, typer.Option(help="A model to serve; repeat.")] = None,
    catalog: Annotated[
        list[Path] | None, typer.Option(help="Folder of catalog files; repeat.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 50051,
    stages_port: Annotated[
        int, typer.Option(min=0, max=65535, help="The stages' own; 0 takes a free one.")
    ] = 0,
    replicas_encoders: Replicas = 1,
    replicas_prior: Replicas = 1,
    replicas_decoder: Replicas = 1,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of each replica.")] = 1,
    runtime: Annotated[
        Path | None, typer.Option(help="How networks run, as `kandinsky tune` found it.")
    ] = None,
) -> None:
    """Serve models on this machine until Ctrl-C or `kandinsky down`."""
    from services.local import up as system
    from services.local.preflight import PreflightError

    replicas = {
        Stage.ENCODERS: replicas_encoders,
        Stage.PRIOR: replicas_prior,
        Stage.DECODER: replicas_decoder,
    }
    folders = [folder.absolute() for folder in catalog or []]
    try:
        models = model or [DEFAULT_MODEL]
        options = system.Options(
            models, folders, host, port, stages_port, replicas, threads, runtime
        )
        code = system.up(options)
    except (PreflightError, system.StartError) as error:
        raise fail(str(error)) from error
    if code:
        raise typer.Exit(code)


def tune(
    model: Annotated[list[str] | None, typer.Option(help="A model to tune; repeat.")] = None,
    catalog: Annotated[
        list[Path] | None, typer.Option(help="Folder of catalog files; repeat.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of each replica.")] = 1,
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")] = Path(
        "runtime.yaml"
    ),
) -> None:
    """Find the fastest layout and compilation of models on this machine, for `up --runtime`."""
    from services.loading.runtime_options import RuntimeOptions
    from services.local import tuning
    from services.transport.replica import keep_compiled

    def show(stage: Stage, options: RuntimeOptions, times: tuning.Times) -> None:
        how = options.model_dump(exclude_defaults=True) or "as it comes"
        each = ", ".join(f"{rows} rows {1e3 * taken:.1f} ms" for rows, taken in times.items())
        typer.echo(f"{stage.value:8} {how}: {each}")

    keep_compiled()
    folders = [folder.absolute() for folder in catalog or []]
    try:
        found = {
            name: tuning.tune(name, folders, threads, show) for name in model or [DEFAULT_MODEL]
        }
    except (CatalogError, RuntimeError) as error:
        raise fail(str(error)) from error
    tuning.Tuning(device=tuning.device_name(), models=found).write(output)
    typer.echo(f"written to {output}")


def down() -> None:
    """End the `kandinsky up` of this user, and wait until it has ended."""
    running = run_file.read()
    process = None if running is None else run_file.process(running)
    if running is None or process is None:
        typer.echo("nothing is running")
        return
    with suppress(psutil.NoSuchProcess):  # it ended by itself just now
        process.terminate()
    end = time.monotonic() + DOWN_SECONDS
    while run_file.process(running) is not None:  # None too where its parent has not reaped it
        if time.monotonic() > end:
            raise fail(f"process {running.pid} has not ended after {DOWN_SECONDS} s")
        time.sleep(0.1)
    typer.echo(f"ended {', '.join(running.models)} at {running.address}")


def status(address: AddressOption = None) -> None:
    """Show what runs and how each model is; exit code 1 unless all serve."""
    from services.local import health

    running = run_file.current()
    if running is not None:
        typer.echo(f"process {running.pid} serves at {running.address}")
    elif address is None:
        raise fail("nothing is running; start it with `kandinsky up`")
    where = resolve(address)
    try:
        with Client(where, timeout=10) as client:
            names = [model.name for model in client.list_models()]
        statuses = {name: health.status(where, name) for name in names}
    except KandinskyError as error:
        raise fail_with(error) from error
    except ImportError as error:
        raise fail("health needs pip install 'kandinsky-serve[gateway]'") from error
    for name, how in statuses.items():
        typer.echo(f"{name} {how}")
    if any(how != "SERVING" for how in statuses.values()):
        raise typer.Exit(1)
