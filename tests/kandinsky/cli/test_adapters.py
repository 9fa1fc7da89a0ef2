"""`kandinsky adapters` against a service that keeps what it is asked."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_status import rpc_status
from typer.testing import CliRunner, Result

from kandinsky.v1 import adapters_pb2, adapters_pb2_grpc
from kandinsky.wire.errors import invalid, to_status
from tests.kandinsky.declared import app


@dataclass
class Recording(adapters_pb2_grpc.AdapterServiceServicer):
    """Its answers are made up; `address` is where it listens."""

    address: str = ""
    requests: list[Any] = field(default_factory=list)

    def LoadAdapter(self, request: Any, context: Any) -> Any:
        self.requests.append(request)
        if request.name == "bad":
            refused = invalid("adapter.file", "cannot be read as safetensors")
            context.abort_with_status(rpc_status.to_status(to_status(refused)))
        return adapters_pb2.LoadAdapterResponse(changes=12)

    def UnloadAdapter(self, request: Any, context: Any) -> Any:
        self.requests.append(request)
        return adapters_pb2.UnloadAdapterResponse()

    def ListAdapters(self, request: Any, context: Any) -> Any:
        file = adapters_pb2.AdapterFile(
            kind="ADAPTER_KIND_TEXTUAL_INVERSION", file="toy.bin", token="<toy>"
        )
        named = adapters_pb2.NamedAdapter(name="cat-toy", adapter=file)
        return adapters_pb2.ListAdaptersResponse(adapters=[named])


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Recording]:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    server, recording = grpc.server(ThreadPoolExecutor(2)), Recording()
    adapters_pb2_grpc.add_AdapterServiceServicer_to_server(recording, server)
    recording.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield recording
    server.stop(None)


def run(service: Recording, *words: str) -> Result:
    return CliRunner().invoke(app, ["adapters", *words, "--address", service.address])


def test_a_file_is_given_a_name(service: Recording) -> None:
    words = ("--kind", "textual-inversion", "--token", "<toy>")
    done = run(service, "load", "tiny", "cat-toy", "toy.bin", *words)
    assert done.exit_code == 0, done.output
    assert "cat-toy changes 12 layers or embeddings of tiny" in done.stdout
    [request] = service.requests
    assert (request.model, request.name, request.adapter.file) == ("tiny", "cat-toy", "toy.bin")
    assert request.adapter.kind == adapters_pb2.ADAPTER_KIND_TEXTUAL_INVERSION
    assert request.adapter.token == "<toy>"


def test_it_is_a_lora_where_nothing_else_is_said(service: Recording) -> None:
    assert run(service, "load", "tiny", "style", "style.safetensors").exit_code == 0
    [request] = service.requests
    assert request.adapter.kind == adapters_pb2.ADAPTER_KIND_LORA
    assert not request.adapter.HasField("token")


def test_an_unknown_kind_asks_nobody(service: Recording) -> None:
    done = run(service, "load", "tiny", "style", "style.safetensors", "--kind", "wings")
    assert done.exit_code == 1
    assert "adapter.kind: 'wings' is none of lora, textual-inversion, ip-adapter" in done.stderr
    assert not service.requests


def test_what_is_refused_is_a_sentence(service: Recording) -> None:
    done = run(service, "load", "tiny", "bad", "bad.safetensors")
    assert done.exit_code == 1
    assert done.stderr.strip() == "adapter.file: cannot be read as safetensors"


def test_a_name_is_taken_away(service: Recording) -> None:
    assert run(service, "unload", "tiny", "style").exit_code == 0
    assert service.requests == [adapters_pb2.UnloadAdapterRequest(model="tiny", name="style")]


def test_they_are_listed(service: Recording) -> None:
    done = run(service, "list", "tiny")
    for word in ("cat-toy", "textual-inversion", "toy.bin", "<toy>"):
        assert word in done.stdout
