"""The client for programs that wait."""

from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any, Unpack

import grpc
from google.protobuf.message import Message

from kandinsky.client import options as given
from kandinsky.client import requests
from kandinsky.client.connection import DEFAULT_ADDRESS, Server
from kandinsky.client.events import Event, Gathering, Generated, OnProgress, read
from kandinsky.client.options import Condition, Mask, Picture
from kandinsky.v1 import generation_pb2, generation_pb2_grpc
from kandinsky.wire.channels import OPTIONS


class Client:
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
        self._server = Server(address, tls, timeout)
        self._tenant = tenant
        self._priority = priority
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
        on_progress: OnProgress | None = None,
        timeout: float | None = None,
        request_id: str | None = None,
        **options: Unpack[given.TextToImageOptions],
    ) -> list[Generated]:
        """Pictures from prompts, in order of their index.

        Args:
            prompts: one or several; none where `image_embeds` stand in for them.
            on_progress: called with each step's news, in the caller's thread.
            timeout: seconds, in place of the client's own.
            request_id: printable ASCII; stands in the server's logs.
            options: see `TextToImageOptions`.
        """
        request = requests.text_to_image(prompts, **options)
        return self._gathered(request, on_progress, timeout, request_id)

    def mix(
        self,
        conditions: Sequence[Condition],
        weights: Sequence[float],
        *,
        on_progress: OnProgress | None = None,
        timeout: float | None = None,
        request_id: str | None = None,
        **options: Unpack[given.MixOptions],
    ) -> list[Generated]:
        """Pictures from a weighted blend of texts, pictures and embeddings.

        Args:
            conditions: what to blend.
            weights: one a condition.
            options: see `MixOptions`; the rest as of `text_to_image`.
        """
        request = requests.mix(conditions, weights, **options)
        return self._gathered(request, on_progress, timeout, request_id)

    def interpolate_frames(
        self,
        first: Condition,
        last: Condition,
        frames: int,
        *,
        on_progress: OnProgress | None = None,
        timeout: float | None = None,
        request_id: str | None = None,
        **options: Unpack[given.InterpolateFramesOptions],
    ) -> list[Generated]:
        """Pictures along the way from one condition to another, all of one seed.

        Args:
            first: what the first picture shows.
            last: what the last picture shows.
            frames: how many, both ends included.
            options: see `InterpolateFramesOptions`; the rest as of `text_to_image`.
        """
        request = requests.interpolate_frames(first, last, frames, **options)
        return self._gathered(request, on_progress, timeout, request_id)

    def image_to_image(
        self,
        image: Picture | Sequence[Picture],
        prompts: str | Sequence[str] = (),
        *,
        on_progress: OnProgress | None = None,
        timeout: float | None = None,
        request_id: str | None = None,
        **options: Unpack[given.ImageToImageOptions],
    ) -> list[Generated]:
        """Pictures that start from a picture.

        Args:
            image: one, or one a prompt.
            prompts: what it becomes.
            options: see `ImageToImageOptions`; the rest as of `text_to_image`.
        """
        request = requests.image_to_image(image, prompts, **options)
        return self._gathered(request, on_progress, timeout, request_id)

    def inpaint(
        self,
        image: Picture | Sequence[Picture],
        mask: Mask | Sequence[Mask],
        prompts: str | Sequence[str] = (),
        *,
        on_progress: OnProgress | None = None,
        timeout: float | None = None,
        request_id: str | None = None,
        **options: Unpack[given.InpaintOptions],
    ) -> list[Generated]:
        """A picture with its masked part made anew.

        Args:
            image: one, or one a prompt.
            mask: white is repainted; one, or one a prompt.
            prompts: for what is new.
            options: see `InpaintOptions`; the rest as of `text_to_image`.
        """
        request = requests.inpaint(image, mask, prompts, **options)
        return self._gathered(request, on_progress, timeout, request_id)

    def outpaint(
        self,
        image: Picture | Sequence[Picture],
        prompts: str | Sequence[str] = (),
        *,
        top: int = 0,
        bottom: int = 0,
        left: int = 0,
        right: int = 0,
        on_progress: OnProgress | None = None,
        timeout: float | None = None,
        request_id: str | None = None,
        **options: Unpack[given.OutpaintOptions],
    ) -> list[Generated]:
        """A picture continued past its edges.

        Args:
            image: one, or one a prompt.
            prompts: for what is new.
            top: pixels to add above.
            bottom: pixels to add below.
            left: pixels to add on the left.
            right: pixels to add on the right.
            options: see `OutpaintOptions`; the rest as of `text_to_image`.
        """
        request = requests.outpaint(
            image, prompts, top=top, bottom=bottom, left=left, right=right, **options
        )
        return self._gathered(request, on_progress, timeout, request_id)

    def variation(
        self,
        image: Picture | Sequence[Picture],
        *,
        on_progress: OnProgress | None = None,
        timeout: float | None = None,
        request_id: str | None = None,
        **options: Unpack[given.VariationOptions],
    ) -> list[Generated]:
        """Pictures like a picture, or like each of several.

        Args:
            image: one or several.
            options: see `VariationOptions`; the rest as of `text_to_image`.
        """
        request = requests.variation(image, **options)
        return self._gathered(request, on_progress, timeout, request_id)

    def control(
        self,
        hint: Picture | Sequence[Picture],
        prompts: str | Sequence[str] = (),
        *,
        on_progress: OnProgress | None = None,
        timeout: float | None = None,
        request_id: str | None = None,
        **options: Unpack[given.ControlOptions],
    ) -> list[Generated]:
        """Pictures that keep to a control hint, such as a depth map.

        Args:
            hint: near is white; one, or one a prompt.
            prompts: what to draw.
            options: see `ControlOptions`; the rest as of `text_to_image`.
        """
        request = requests.control(hint, prompts, **options)
        return self._gathered(request, on_progress, timeout, request_id)

    def text_guided_edit(
        self,
        image: Picture,
        source_prompt: str,
        target_prompt: str,
        *,
        on_progress: OnProgress | None = None,
        timeout: float | None = None,
        request_id: str | None = None,
        **options: Unpack[given.TextGuidedEditOptions],
    ) -> list[Generated]:
        """A picture changed as two texts differ.

        Args:
            image: what to change.
            source_prompt: what it shows.
            target_prompt: what it shall show.
            options: see `TextGuidedEditOptions`; the rest as of `text_to_image`.
        """
        request = requests.text_guided_edit(image, source_prompt, target_prompt, **options)
        return self._gathered(request, on_progress, timeout, request_id)

    def stream(
        self, request: Message, *, timeout: float | None = None, request_id: str | None = None
    ) -> Generator[Event, None, None]:
        """A request's events, each image as soon as it is done; closing it cancels the rest.

        Args:
            request: of any flow, as the functions of `kandinsky.client.requests` make it.
            timeout: seconds, in place of the client's own.
            request_id: printable ASCII; stands in the server's logs.
        """
        method = getattr(self._stub, requests.RPCS[type(request)])
        return self._events(method, request, timeout, request_id)

    def list_models(self, *, timeout: float | None = None) -> list[generation_pb2.Model]:
        """The models served here, their flows, defaults and limits."""
        limit = self._server.limit(timeout)
        try:
            answer = self._stub.ListModels(generation_pb2.ListModelsRequest(), timeout=limit)
        except grpc.RpcError as error:
            raise self._server.error(error, limit) from error
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

    def _gathered(
        self,
        request: Message,
        on_progress: OnProgress | None,
        timeout: float | None,
        request_id: str | None,
    ) -> list[Generated]:
        gathering = Gathering(on_progress)
        stream = self.stream(request, timeout=timeout, request_id=request_id)
        with closing(stream):
            for event in stream:
                gathering.add(event)
        return gathering.images

    def _events(
        self, method: Any, request: Any, timeout: float | None, request_id: str | None
    ) -> Generator[Event, None, None]:
        metadata = requests.metadata(request_id, self._tenant, self._priority)
        limit = self._server.limit(timeout)

        def events() -> Generator[Event, None, None]:
            call = method(request, timeout=limit, metadata=metadata)
            try:
                for message in call:
                    event = read(message)
                    if event is not None:
                        yield event
            except grpc.RpcError as error:
                raise self._server.error(error, limit) from error
            finally:
                call.cancel()

        return events()
