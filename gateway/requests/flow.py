"""Which guide, canvas and control a request chooses, and whether its model has them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kandinsky.catalog.entry import CatalogEntry
from kandinsky.catalog.family import CanvasKind, GuideKind
from kandinsky.v1 import generation_pb2
from kandinsky.wire.errors import KandinskyError, Reason

VARIATION = "variation"
"""What a flow calls the guide `image`, which would be the canvas's name."""
_NAME_CHARACTERS = 64


@dataclass(frozen=True)
class Flow:
    """The choices of a request."""

    guide: GuideKind
    canvas: CanvasKind
    control: bool

    @property
    def name(self) -> str:
        """Such as `text`, `mix+inpaint`, `variation+image`, `text+control`."""
        parts = [guide_name(self.guide)]
        if self.canvas is not CanvasKind.NOISE:
            parts.append(self.canvas.value)
        if self.control:
            parts.append("control")
        return "+".join(parts)


def guide_name(kind: GuideKind) -> str:
    """What a flow calls a kind of guide."""
    return VARIATION if kind is GuideKind.IMAGE else kind.value


def served_entry(model: str, models: Mapping[str, CatalogEntry]) -> CatalogEntry:
    """The entry of a model.

    Raises:
        KandinskyError: MODEL_NOT_FOUND.
    """
    entry = models.get(model)
    if entry is None:
        name, names = model[:_NAME_CHARACTERS], ", ".join(sorted(models))
        raise KandinskyError(
            Reason.MODEL_NOT_FOUND,
            f"no model {name!r} is served here; there is {names}",
            metadata={"model": name, "served": names},
        )
    return entry


def flow_of(request: generation_pb2.GenerateRequest) -> Flow | None:
    """The choices of a request; None where it chooses no guide."""
    kind = request.guide.WhichOneof("kind")
    if kind is None:
        return None
    canvas = request.canvas.WhichOneof("kind")
    return Flow(
        GuideKind(kind),
        CanvasKind.NOISE if canvas is None else CanvasKind(canvas),
        request.HasField("control"),
    )


def check_flow(flow: Flow, entry: CatalogEntry) -> None:
    """Refuse a combination that a model does not have.

    Raises:
        KandinskyError: FLOW_UNSUPPORTED, with what the model has in place of it.
    """
    if flow.guide not in entry.has_guides:
        has = f"its guides are {_listed(guide_name(kind) for kind in entry.has_guides)}"
    elif flow.canvas not in entry.has_canvases:
        has = f"its canvases are {_listed(kind.value for kind in entry.has_canvases)}"
    elif flow.control and not entry.control:
        has = "it follows no control hint"
    elif entry.control and not flow.control:
        has = "it follows a control hint; send control.hints"
    else:
        return
    raise KandinskyError(
        Reason.FLOW_UNSUPPORTED,
        f"model {entry.name} does not have {flow.name}; {has}",
        metadata={"flow": flow.name, "model": entry.name},
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
