"""The SDK: a sync and an asyncio client, pictures in and out."""

from kandinsky.client.aio import AsyncClient
from kandinsky.client.animation import save_animation
from kandinsky.client.events import Event, Generated, Preview, Progress, Queued, StageStats
from kandinsky.client.options import (
    Condition,
    Embedding,
    Interpolation,
    Latents,
    Mask,
    OutputFormat,
    Picture,
    PreviewMode,
)
from kandinsky.client.requests import DEFAULT_MODEL
from kandinsky.client.sync import Client

__all__ = [
    "DEFAULT_MODEL",
    "AsyncClient",
    "Client",
    "Condition",
    "Embedding",
    "Event",
    "Generated",
    "Interpolation",
    "Latents",
    "Mask",
    "OutputFormat",
    "Picture",
    "Preview",
    "PreviewMode",
    "Progress",
    "Queued",
    "StageStats",
    "save_animation",
]
