"""The client for asyncio."""

from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc
import grpc.aio

from kandinsky.client.adapters import load_request
from kandinsky.client.answers import cost_estimate, read
from kandinsky.client.connection import DEFAULT_ADDRESS, Server
from kandinsky.client.events import CostEstimate, Event, Generated, Results
from kandinsky.client.flows import Flows
from kandinsky.client.options import CallOptions
from kandinsky.v1 import adapters_pb2, adapters_pb2_grpc, generation_pb2_grpc, models_pb2
from kandinsky.v1.generation_pb2 import GenerateRequest
from kandinsky.wire.channels import OPTIONS


class AsyncClient(Flows[Coroutine[Any, Any, list[Generated]], Coroutine[Any, Any, CostEstimate]]):
    """A connection to a gateway for one event loop; usable as an async context manager.

    Arguments, methods and errors are those of `Client`; the methods of flows are awaited.
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
            self._channel = grpc.aio.insecure_channel(address, options=OPTIONS)
        else:
            self._channel = grpc.aio.secure_channel(address, credentials, options=OPTIONS)
        self._stub: Any = generation_pb2_grpc.GenerationServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._adapters: Any = adapters_pb2_grpc.AdapterServiceStub(self._channel)  # type: ignore[no-untyped-call]

    def stream(
        self,
        request: GenerateRequest,
        *,
        timeout: float | None = None,
        request_id: str | None = None,
    ) -> AsyncGenerator[Event, None]:
        """A request's events, each image as soon as it is done; closing it cancels the rest.

        See `Client.stream`.
        """
        call = self._server.call(timeout, request_id)

        async def events() -> AsyncGenerator[Event, None]:
            answers = self._stub.Generate(request, timeout=call.limit, metadata=call.metadata)
            try:
                async for message in answers:
                    event = read(message)
                    if event is not None:
                        yield event
            except grpc.RpcError as error:
                raise self._server.error(error, call.limit) from error
            finally:
                answers.cancel()

        return events()

    async def list_models(
        self,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - it travels to the server
    ) -> list[models_pb2.Model]:
        """The models served here, what they can, their defaults and limits."""
        request = models_pb2.ListModelsRequest()
        answer = await self._unary(self._stub.ListModels, request, timeout, None)
        return list(answer.models)

    async def load_adapter(
        self,
        model: str,
        name: str,
        file: str,
        *,
        kind: str = "lora",
        token: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - it travels to the server
    ) -> int:
        """See `Client.load_adapter`."""
        request = load_request(model, name, file, kind, token)
        answer = await self._unary(self._adapters.LoadAdapter, request, timeout, None)
        return int(answer.changes)

    async def unload_adapter(
        self,
        model: str,
        name: str,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - it travels to the server
    ) -> None:
        """See `Client.unload_adapter`."""
        request = adapters_pb2.UnloadAdapterRequest(model=model, name=name)
        await self._unary(self._adapters.UnloadAdapter, request, timeout, None)

    async def list_adapters(
        self,
        model: str,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - it travels to the server
    ) -> list[adapters_pb2.NamedAdapter]:
        """The adapters that a model has now."""
        request = adapters_pb2.ListAdaptersRequest(model=model)
        answer = await self._unary(self._adapters.ListAdapters, request, timeout, None)
        return list(answer.adapters)

    async def close(self) -> None:
        """End running calls and the connection."""
        await self._channel.close(None)

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def _images(self, request: GenerateRequest, call: CallOptions) -> list[Generated]:
        results = Results(call.get("on_progress"))
        stream = self.stream(
            request, timeout=call.get("timeout"), request_id=call.get("request_id")
        )
        async with aclosing(stream):
            async for event in stream:
                results.add(event)
        return results.images

    async def _cost(self, request: GenerateRequest, call: CallOptions) -> CostEstimate:
        method = self._stub.GenerateImages
        answer = await self._unary(method, request, call.get("timeout"), call.get("request_id"))
        return cost_estimate(answer.estimate)

    async def _unary(
        self,
        method: Any,
        request: Any,
        timeout: float | None,  # noqa: ASYNC109 - it travels to the server
        id: str | None,
    ) -> Any:
        call = self._server.call(timeout, id)
        try:
            return await method(request, timeout=call.limit, metadata=call.metadata)
        except grpc.RpcError as error:
            raise self._server.error(error, call.limit) from error
