"""The client for programs that wait."""

from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc

from kandinsky.client.adapters import load_request
from kandinsky.client.answers import cost_estimate, read
from kandinsky.client.connection import DEFAULT_ADDRESS, Server
from kandinsky.client.events import CostEstimate, Event, Generated, Results
from kandinsky.client.flows import Flows
from kandinsky.client.options import CallOptions
from kandinsky.v1 import adapters_pb2, adapters_pb2_grpc, generation_pb2_grpc, models_pb2
from kandinsky.v1.generation_pb2 import GenerateRequest
from kandinsky.wire.channels import OPTIONS


class Client(Flows[list[Generated], CostEstimate]):
    """A connection to a gateway; usable from several threads, and as a context manager.

    Every method raises `KandinskyError` for what the server refuses or cannot do.

    Args:
        address: HOST:PORT of the gateway.
        tls: True trusts the system's certificate authorities; a path names a PEM file of them.
        timeout: seconds that one call may take, above 0; None waits without a limit.
        tenant: on whose behalf; tenants get fair shares. All clients without one share one's.
        priority: -100 to 100; higher goes before lower among a tenant's own. None is 0.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        tls: bool | str | Path = False,
        timeout: float | None = None,
        tenant: str | None = None,
        priority: int | None = None,
    ) -> None:
        self._server = Server(address, tls, timeout, tenant, priority)
        credentials = self._server.credentials()
        if credentials is None:
            self._channel = grpc.insecure_channel(address, options=OPTIONS)
        else:
            self._channel = grpc.secure_channel(address, credentials, options=OPTIONS)
        self._stub: Any = generation_pb2_grpc.GenerationServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._adapters: Any = adapters_pb2_grpc.AdapterServiceStub(self._channel)  # type: ignore[no-untyped-call]

    def stream(
        self,
        request: GenerateRequest,
        *,
        timeout: float | None = None,
        request_id: str | None = None,
    ) -> Generator[Event, None, None]:
        """A request's events, each image as soon as it is done; closing it cancels the rest.

        Args:
            request: of any flow, from `kandinsky.client.requests`.
            timeout: seconds, in place of the client's own.
            request_id: printable ASCII; stands in the server's logs.
        """
        call = self._server.call(timeout, request_id)

        def events() -> Generator[Event, None, None]:
            answers = self._stub.Generate(request, timeout=call.limit, metadata=call.metadata)
            try:
                for message in answers:
                    event = read(message)
                    if event is not None:
                        yield event
            except grpc.RpcError as error:
                raise self._server.error(error, call.limit) from error
            finally:
                answers.cancel()

        return events()

    def list_models(self, *, timeout: float | None = None) -> list[models_pb2.Model]:
        """The models served here, what they can, their defaults and limits."""
        answer = self._unary(self._stub.ListModels, models_pb2.ListModelsRequest(), timeout, None)
        return list(answer.models)

    def load_adapter(
        self,
        model: str,
        name: str,
        file: str,
        *,
        kind: str = "lora",
        token: str | None = None,
        timeout: float | None = None,
    ) -> int:
        """Give an adapter a name, once the model's stages could use its file.

        Args:
            model: that has a folder of adapters.
            name: for requests.
            file: path inside that folder.
            kind: `lora`, `textual-inversion` or `ip-adapter`.
            token: that stands for a textual inversion in prompts; None for what its file says.
            timeout: as of `stream`.

        Returns:
            Layers of the model's networks that it changes, or embeddings that it adds.
        """
        request = load_request(model, name, file, kind, token)
        answer = self._unary(self._adapters.LoadAdapter, request, timeout, None)
        return int(answer.changes)

    def unload_adapter(self, model: str, name: str, *, timeout: float | None = None) -> None:
        """Take an adapter's name away; requests that are at work keep it, and the file stays."""
        request = adapters_pb2.UnloadAdapterRequest(model=model, name=name)
        self._unary(self._adapters.UnloadAdapter, request, timeout, None)

    def list_adapters(
        self, model: str, *, timeout: float | None = None
    ) -> list[adapters_pb2.NamedAdapter]:
        """The adapters that a model has now."""
        request = adapters_pb2.ListAdaptersRequest(model=model)
        return list(self._unary(self._adapters.ListAdapters, request, timeout, None).adapters)

    def close(self) -> None:
        """End running calls and the connection."""
        self._channel.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _images(self, request: GenerateRequest, call: CallOptions) -> list[Generated]:
        results = Results(call.get("on_progress"))
        stream = self.stream(
            request, timeout=call.get("timeout"), request_id=call.get("request_id")
        )
        with closing(stream):
            for event in stream:
                results.add(event)
        return results.images

    def _cost(self, request: GenerateRequest, call: CallOptions) -> CostEstimate:
        method = self._stub.GenerateImages
        answer = self._unary(method, request, call.get("timeout"), call.get("request_id"))
        return cost_estimate(answer.estimate)

    def _unary(self, method: Any, request: Any, timeout: float | None, id: str | None) -> Any:
        call = self._server.call(timeout, id)
        try:
            return method(request, timeout=call.limit, metadata=call.metadata)
        except grpc.RpcError as error:
            raise self._server.error(error, call.limit) from error
