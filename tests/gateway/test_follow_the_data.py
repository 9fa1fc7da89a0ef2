"""A prompt is handed from `Generate` to the encoders' request by a few functions of a few files."""

import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from gateway.requests.sources import Text
from tests.gateway.messages import request, text

GATEWAY = Path(__file__).parents[2] / "gateway"
PROMPT = "a prompt as no other"
FUNCTIONS, FILES = 8, 5


def values(found: Any) -> Iterator[Any]:
    """What a value hands on: itself, and what is in its collections."""
    if isinstance(found, Text):
        yield found.text
    elif isinstance(found, Mapping):
        for pair in found.items():
            yield from values(pair)
    elif isinstance(found, tuple | list):
        for each in found:
            yield from values(each)
    else:
        yield found


def is_prompt(found: Any) -> bool:
    return any(isinstance(each, str) and each == PROMPT for each in values(found))


class Trace:
    """The functions of the gateway that take the prompt or give it, and those that they hand it to.

    Up to the call of a stage. The contract's constraints, which look at every field of a message
    alike, are no part of the gateway.
    """

    def __init__(self) -> None:
        self.functions: set[tuple[str, str]] = set()
        self.has_ended = False

    def __call__(self, frame: FrameType, event: str, returned: Any) -> None:
        if self.has_ended or event not in ("call", "return"):
            return
        if not self._is_of_the_gateway(frame):
            return
        caller = frame.f_back
        if (
            frame.f_code.co_filename.endswith("stage_calls.py")
            and caller is not None
            and caller.f_code.co_qualname == "Stages.encode"
        ):
            self.has_ended = True
        code = frame.f_code
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        given = [frame.f_locals.get(name) for name in names] if event == "call" else [returned]
        if any(map(is_prompt, given)):
            for each in (frame, frame.f_back):
                if each is not None and self._is_of_the_gateway(each):
                    self.functions.add((each.f_code.co_filename, each.f_code.co_qualname))

    def _is_of_the_gateway(self, frame: FrameType) -> bool:
        return frame.f_code.co_filename.startswith(f"{GATEWAY}/") and "<" not in (
            frame.f_code.co_name
        )


async def test_a_prompt_on_its_way_to_the_encoders(api, stages) -> None:
    trace = Trace()
    # Validation and planning run on threads that the first request starts.
    for module in (sys, threading):
        module.setprofile(trace)
    try:
        await api.GenerateImages(request(guide=text(PROMPT)))
    finally:
        for module in (sys, threading):
            module.setprofile(None)
    assert any(PROMPT in call.request.texts for call in stages.calls if call.method == "EncodeText")
    names = {name for _, name in trace.functions}
    assert {"TextGuide.validate", "plan", "Stages.encode"} <= names
    assert len(trace.functions) <= FUNCTIONS, sorted(trace.functions)
    assert len({file for file, _ in trace.functions}) <= FILES
