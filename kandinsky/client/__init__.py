"""The SDK: a sync and an asyncio client, pictures in and out."""

from kandinsky.client.aio import AsyncClient
from kandinsky.client.events import Event, Generated, Preview, Progress, Queued, StageStats
from kandinsky.client.requests import DEFAULT_MODEL, OutputFormat, TextToImageOptions
from kandinsky.client.sync import Client

__all__ = [
    "DEFAULT_MODEL",
    "AsyncClient",
    "Client",
    "Event",
    "Generated",
    "OutputFormat",
    "Preview",
    "Progress",
    "Queued",
    "StageStats",
    "TextToImageOptions",
]
