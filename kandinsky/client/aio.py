"""The client for asyncio."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from types import TracebackType
from typing import Any, Unpack

import grpc
import grpc.aio

from kandinsky.client import requests
from kandinsky.client.connection import DEFAULT_ADDRESS, Server
from kandinsky.client.events import Event, Gathering, Generated, Progress, read
from kandinsky.client.requests import TextToImageOptions
from kandinsky.v1 import generation_pb2, generation_pb2_grpc
from kandinsky.wire.channels import OPTIONS


class AsyncClient:
    """A connection to a gateway for one event loop; usable as an async context manager.

    Arguments, methods and errors are those of `Client`.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        tls: bool | str | Path = False,
        timeout: float | None = None,
    ) -> None:
        self._server = Server(address, tls)
        self._timeout = timeout
        credentials = self._server.credentials()
        if credentials is None:
            self._channel = grpc.aio.insecure_channel(address, options=OPTIONS)
        else:
            self._channel = grpc.aio.secure_channel(address, credentials, options=OPTIONS)
        self._stub: Any = generation_pb2_grpc.GenerationServiceStub(self._channel)  # type: ignore[no-untyped-call]

    async def text_to_image(
        self,
        prompts: str | Sequence[str] = (),
        *,
        on_progress: Callable[[Progress], None] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the server is told it too
        request_id: str | None = None,
        **options: Unpack[TextToImageOptions],
    ) -> list[Generated]:
        """Pictures from prompts, in order of their index; see `Client.text_to_image`."""
        gathering = Gathering(on_progress)
        stream = self.stream_text_to_image(
            prompts, timeout=timeout, request_id=request_id, **options
        )
        async with aclosing(stream):
            async for event in stream:
                gathering.add(event)
        return gathering.images

    def stream_text_to_image(
        self,
        prompts: str | Sequence[str] = (),
        *,
        timeout: float | None = None,
        request_id: str | None = None,
        **options: Unpack[TextToImageOptions],
    ) -> AsyncGenerator[Event, None]:
        """The same as events, each image as soon as it is done; closing it cancels the rest."""
        request = requests.text_to_image(prompts, **options)
        return self._events(self._stub.TextToImage, request, timeout, request_id)

    async def list_models(
        self,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - the server is told it too
    ) -> list[generation_pb2.Model]:
        """The models served here, their flows, defaults and limits."""
        try:
            answer = await self._stub.ListModels(
                generation_pb2.ListModelsRequest(), timeout=self._limit(timeout)
            )
        except grpc.RpcError as error:
            raise self._server.error(error) from error
        return list(answer.models)

    async def close(self) -> None:
        """Ends running calls and the connection."""
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

    def _events(
        self, method: Any, request: Any, timeout: float | None, request_id: str | None
    ) -> AsyncGenerator[Event, None]:
        metadata = requests.metadata(request_id)

        async def events() -> AsyncGenerator[Event, None]:
            call = method(request, timeout=self._limit(timeout), metadata=metadata)
            try:
                async for message in call:
                    event = read(message)
                    if event is not None:
                        yield event
            except grpc.RpcError as error:
                raise self._server.error(error) from error
            finally:
                call.cancel()

        return events()

    def _limit(self, timeout: float | None) -> float | None:
        return self._timeout if timeout is None else timeout
