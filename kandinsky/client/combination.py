"""Any combination of guide, canvas and control as a call; the named flows build on it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Generic, TypeVar, Unpack

from kandinsky.client.canvases import Canvas
from kandinsky.client.guides import Guide
from kandinsky.client.options import CallOptions, CombinationOptions, InputImages
from kandinsky.client.request import build
from kandinsky.v1.generation_pb2 import GenerateRequest

Images = TypeVar("Images")
"""What a flow's method returns: images, a coroutine of them, or the request itself."""
Cost = TypeVar("Cost")
"""What `estimate` returns."""


class Combination(ABC, Generic[Images, Cost]):
    """Generates, or estimates, any combination."""

    @abstractmethod
    def _images(self, request: GenerateRequest, call: CallOptions) -> Images:
        """What the method of a flow returns."""

    @abstractmethod
    def _cost(self, request: GenerateRequest, call: CallOptions) -> Cost:
        """What `estimate` returns."""

    def generate(
        self,
        guide: Guide,
        canvas: Canvas | None = None,
        control: InputImages | None = None,
        **options: Unpack[CombinationOptions],
    ) -> Images:
        """Generate images of any combination of guide, canvas and control.

        Args:
            guide: what the images show, from `kandinsky.client.guides`.
            canvas: where denoising starts, from `kandinsky.client.canvases`; None: from noise.
            control: hints that the images keep to, such as depth maps: near is white; one, or one
                for each item of the guide.
            options: see `CombinationOptions`.

        Raises:
            KandinskyError: a value does not fit its field, or the server refuses or fails.
            TypeError: an option is unknown.
        """
        request, call = _split(guide, canvas, control, options)
        return self._images(request, call)

    def estimate(
        self,
        guide: Guide,
        canvas: Canvas | None = None,
        control: InputImages | None = None,
        **options: Unpack[CombinationOptions],
    ) -> Cost:
        """Check a request and estimate what it would cost; generate nothing.

        Arguments and errors as of `generate`.
        """
        request, call = _split(guide, canvas, control, options)
        request.validate_only = True
        return self._cost(request, call)

    def _flow(
        self,
        name: str,
        guide: Guide,
        options: Mapping[str, Any],
        known: frozenset[str],
        *,
        canvas: Canvas | None = None,
        control: InputImages | None = None,
        **own: Any,
    ) -> Images:
        """Generate what a named flow asks for.

        Args:
            name: of the flow.
            guide: what the images show.
            options: as the caller passed them.
            known: names of those that the flow takes.
            canvas: where denoising starts.
            control: hints that the images keep to.
            own: further options, which the flow derives from its own parameters.
        """
        if unknown := options.keys() - known:
            raise TypeError(f"{name} has no option {', '.join(sorted(unknown))}")
        request, call = _split(guide, canvas, control, {**options, **own})
        return self._images(request, call)


def _split(
    guide: Guide, canvas: Canvas | None, control: InputImages | None, options: Mapping[str, Any]
) -> tuple[GenerateRequest, CallOptions]:
    """The request, and how the call is made."""
    call: Any = {name: options[name] for name in options.keys() & CallOptions.__optional_keys__}
    rest: Any = {name: value for name, value in options.items() if name not in call}
    return build(guide, canvas, control, **rest), call
