"""The client for programs that wait."""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any, Unpack

import grpc

from kandinsky.client import requests
from kandinsky.client.connection import DEFAULT_ADDRESS, Server
from kandinsky.client.events import Event, Gathering, Generated, Progress, read
from kandinsky.client.requests import TextToImageOptions
from kandinsky.v1 import generation_pb2, generation_pb2_grpc
from kandinsky.wire.channels import OPTIONS


class Client:
    """A connection to a gateway; usable from several threads, and as a context manager.

    Every method raises `KandinskyError` for what the server refuses or cannot do.

    Args:
        address: HOST:PORT of the gateway.
        tls: True trusts the system's certificate authorities; a path names a PEM file of them.
        timeout: seconds that one call may take; None waits for ever.
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
            self._channel = grpc.insecure_channel(address, options=OPTIONS)
        else:
            self._channel = grpc.secure_channel(address, credentials, options=OPTIONS)
        self._stub: Any = generation_pb2_grpc.GenerationServiceStub(self._channel)  # type: ignore[no-untyped-call]

    def text_to_image(
        self,
        prompts: str | Sequence[str] = (),
        *,
        on_progress: Callable[[Progress], None] | None = None,
        timeout: float | None = None,
        request_id: str | None = None,
        **options: Unpack[TextToImageOptions],
    ) -> list[Generated]:
        """Pictures from prompts, in order of their index.

        Args:
            prompts: one or several; none where `image_embeds` stand in for them.
            on_progress: called with each step's news, in the caller's thread.
            timeout: seconds, in place of the client's own.
            request_id: printable ASCII; stands in the server's logs.
            options: see `TextToImageOptions`.
        """
        gathering = Gathering(on_progress)
        stream = self.stream_text_to_image(
            prompts, timeout=timeout, request_id=request_id, **options
        )
        with closing(stream):
            for event in stream:
                gathering.add(event)
        return gathering.images

    def stream_text_to_image(
        self,
        prompts: str | Sequence[str] = (),
        *,
        timeout: float | None = None,
        request_id: str | None = None,
        **options: Unpack[TextToImageOptions],
    ) -> Generator[Event, None, None]:
        """The same as events, each image as soon as it is done; closing it cancels the rest."""
        request = requests.text_to_image(prompts, **options)
        return self._events(self._stub.TextToImage, request, timeout, request_id)

    def list_models(self, *, timeout: float | None = None) -> list[generation_pb2.Model]:
        """The models served here, their flows, defaults and limits."""
        try:
            answer = self._stub.ListModels(
                generation_pb2.ListModelsRequest(), timeout=self._limit(timeout)
            )
        except grpc.RpcError as error:
            raise self._server.error(error) from error
        return list(answer.models)

    def close(self) -> None:
        """Ends running calls and the connection."""
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

    def _events(
        self, method: Any, request: Any, timeout: float | None, request_id: str | None
    ) -> Generator[Event, None, None]:
        metadata = requests.metadata(request_id)

        def events() -> Generator[Event, None, None]:
            call = method(request, timeout=self._limit(timeout), metadata=metadata)
            try:
                for message in call:
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
