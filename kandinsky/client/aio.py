"""The client for asyncio."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path
from types import TracebackType
from typing import Any, Unpack

import grpc
import grpc.aio
from google.protobuf.message import Message

from kandinsky.client import options as given
from kandinsky.client import requests
from kandinsky.client.connection import DEFAULT_ADDRESS, Server
from kandinsky.client.events import Event, Gathering, Generated, OnProgress, read
from kandinsky.client.options import Condition, Mask, Picture
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
        tenant: str | None = None,
        priority: int | None = None,
    ) -> None:
        self._server = Server(address, tls, timeout)
        self._tenant = tenant
        self._priority = priority
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
        on_progress: OnProgress | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the server is told it too
        request_id: str | None = None,
        **options: Unpack[given.TextToImageOptions],
    ) -> list[Generated]:
        """Pictures from prompts, in order of their index. See `Client.text_to_image`."""
        request = requests.text_to_image(prompts, **options)
        return await self._gathered(request, on_progress, timeout, request_id)

    async def mix(
        self,
        conditions: Sequence[Condition],
        weights: Sequence[float],
        *,
        on_progress: OnProgress | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the server is told it too
        request_id: str | None = None,
        **options: Unpack[given.MixOptions],
    ) -> list[Generated]:
        """Pictures from a weighted blend of texts, pictures and embeddings. See `Client.mix`."""
        request = requests.mix(conditions, weights, **options)
        return await self._gathered(request, on_progress, timeout, request_id)

    async def interpolate_frames(
        self,
        first: Condition,
        last: Condition,
        frames: int,
        *,
        on_progress: OnProgress | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the server is told it too
        request_id: str | None = None,
        **options: Unpack[given.InterpolateFramesOptions],
    ) -> list[Generated]:
        """Pictures along the way from one condition to another, all of one seed.

        See `Client.interpolate_frames`.
        """
        request = requests.interpolate_frames(first, last, frames, **options)
        return await self._gathered(request, on_progress, timeout, request_id)

    async def image_to_image(
        self,
        image: Picture | Sequence[Picture],
        prompts: str | Sequence[str] = (),
        *,
        on_progress: OnProgress | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the server is told it too
        request_id: str | None = None,
        **options: Unpack[given.ImageToImageOptions],
    ) -> list[Generated]:
        """Pictures that start from a picture. See `Client.image_to_image`."""
        request = requests.image_to_image(image, prompts, **options)
        return await self._gathered(request, on_progress, timeout, request_id)

    async def inpaint(
        self,
        image: Picture | Sequence[Picture],
        mask: Mask | Sequence[Mask],
        prompts: str | Sequence[str] = (),
        *,
        on_progress: OnProgress | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the server is told it too
        request_id: str | None = None,
        **options: Unpack[given.InpaintOptions],
    ) -> list[Generated]:
        """A picture with its masked part made anew. See `Client.inpaint`."""
        request = requests.inpaint(image, mask, prompts, **options)
        return await self._gathered(request, on_progress, timeout, request_id)

    async def outpaint(
        self,
        image: Picture | Sequence[Picture],
        prompts: str | Sequence[str] = (),
        *,
        top: int = 0,
        bottom: int = 0,
        left: int = 0,
        right: int = 0,
        on_progress: OnProgress | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the server is told it too
        request_id: str | None = None,
        **options: Unpack[given.OutpaintOptions],
    ) -> list[Generated]:
        """A picture continued past its edges. See `Client.outpaint`."""
        request = requests.outpaint(
            image, prompts, top=top, bottom=bottom, left=left, right=right, **options
        )
        return await self._gathered(request, on_progress, timeout, request_id)

    async def variation(
        self,
        image: Picture | Sequence[Picture],
        *,
        on_progress: OnProgress | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the server is told it too
        request_id: str | None = None,
        **options: Unpack[given.VariationOptions],
    ) -> list[Generated]:
        """Pictures like a picture, or like each of several. See `Client.variation`."""
        request = requests.variation(image, **options)
        return await self._gathered(request, on_progress, timeout, request_id)

    async def control(
        self,
        hint: Picture | Sequence[Picture],
        prompts: str | Sequence[str] = (),
        *,
        on_progress: OnProgress | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the server is told it too
        request_id: str | None = None,
        **options: Unpack[given.ControlOptions],
    ) -> list[Generated]:
        """Pictures that keep to a control hint, such as a depth map. See `Client.control`."""
        request = requests.control(hint, prompts, **options)
        return await self._gathered(request, on_progress, timeout, request_id)

    async def text_guided_edit(
        self,
        image: Picture,
        source_prompt: str,
        target_prompt: str,
        *,
        on_progress: OnProgress | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the server is told it too
        request_id: str | None = None,
        **options: Unpack[given.TextGuidedEditOptions],
    ) -> list[Generated]:
        """A picture changed as two texts differ. See `Client.text_guided_edit`."""
        request = requests.text_guided_edit(image, source_prompt, target_prompt, **options)
        return await self._gathered(request, on_progress, timeout, request_id)

    def stream(
        self, request: Message, *, timeout: float | None = None, request_id: str | None = None
    ) -> AsyncGenerator[Event, None]:
        """A request's events, each image as soon as it is done; closing it cancels the rest.

        See `Client.stream`.
        """
        method = getattr(self._stub, requests.RPCS[type(request)])
        return self._events(method, request, timeout, request_id)

    async def list_models(
        self,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - the server is told it too
    ) -> list[generation_pb2.Model]:
        """The models served here, their flows, defaults and limits."""
        limit = self._server.limit(timeout)
        try:
            answer = await self._stub.ListModels(generation_pb2.ListModelsRequest(), timeout=limit)
        except grpc.RpcError as error:
            raise self._server.error(error, limit) from error
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

    async def _gathered(
        self,
        request: Message,
        on_progress: OnProgress | None,
        timeout: float | None,  # noqa: ASYNC109 - the server is told it too
        request_id: str | None,
    ) -> list[Generated]:
        gathering = Gathering(on_progress)
        stream = self.stream(request, timeout=timeout, request_id=request_id)
        async with aclosing(stream):
            async for event in stream:
                gathering.add(event)
        return gathering.images

    def _events(
        self, method: Any, request: Any, timeout: float | None, request_id: str | None
    ) -> AsyncGenerator[Event, None]:
        metadata = requests.metadata(request_id, self._tenant, self._priority)
        limit = self._server.limit(timeout)

        async def events() -> AsyncGenerator[Event, None]:
            call = method(request, timeout=limit, metadata=metadata)
            try:
                async for message in call:
                    event = read(message)
                    if event is not None:
                        yield event
            except grpc.RpcError as error:
                raise self._server.error(error, limit) from error
            finally:
                call.cancel()

        return events()
