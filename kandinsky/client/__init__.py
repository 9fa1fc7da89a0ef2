"""The SDK: a sync and an asyncio client, images in and out."""

from kandinsky.client import canvases, guides
from kandinsky.client.aio import AsyncClient
from kandinsky.client.animation import save_animation
from kandinsky.client.events import (
    CostEstimate,
    Event,
    Generated,
    Preview,
    Progress,
    Queued,
    StageCost,
    StageStats,
)
from kandinsky.client.flows import requests
from kandinsky.client.options import (
    Conditioning,
    ConditioningSource,
    Embedding,
    ImagePrompt,
    InputImage,
    Interpolation,
    Latents,
    Mask,
    OutputFormat,
    PreviewMode,
)
from kandinsky.client.request import DEFAULT_MODEL
from kandinsky.client.sync import Client

__all__ = [
    "DEFAULT_MODEL",
    "AsyncClient",
    "Client",
    "Conditioning",
    "ConditioningSource",
    "CostEstimate",
    "Embedding",
    "Event",
    "Generated",
    "ImagePrompt",
    "InputImage",
    "Interpolation",
    "Latents",
    "Mask",
    "OutputFormat",
    "Preview",
    "PreviewMode",
    "Progress",
    "Queued",
    "StageCost",
    "StageStats",
    "canvases",
    "guides",
    "requests",
    "save_animation",
]
