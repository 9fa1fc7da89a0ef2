"""A gateway in front of fake stages, both on ports of their own."""

from contextlib import asynccontextmanager

import grpc.aio
import pytest

from gateway.server.app import Gateway, GatewayConfig
from gateway.stages import patience
from kandinsky.v1.generation_pb2_grpc import GenerationServiceStub
from kandinsky.wire.channels import OPTIONS
from tests.gateway.fakes import FakeStages

TINY = """
name: tiny
description: A model with every stage.
family: kandinsky-2-2
stages:
  encoders: {model: shapes}
  prior: {checkpoint: {hub: example/prior, revision: main}}
  decoder: {checkpoint: {hub: example/decoder, revision: main}}
flows:
  - text_to_image
  - mix
  - image_to_image
  - inpaint
  - outpaint
  - variation
  - control
  - text_guided_edit
defaults:
  {height: 64, width: 128, steps: 7, guidance_scale: 3, prior_steps: 5, prior_guidance_scale: 2}
limits:
  size_multiple: 64
  min_size: 64
  max_size: 1024
  max_steps: 50
  max_prompt_characters: 40
  max_images: 8
"""
PRIORLESS = """
name: priorless
description: A model whose decoder reads texts.
family: kandinsky-3
stages:
  encoders: {checkpoint: {hub: example/encoders, revision: main}}
  decoder: {checkpoint: {hub: example/decoder, revision: main}}
flows: [text_to_image]
defaults: {height: 64, width: 64, steps: 7, guidance_scale: 3.0}
limits: {size_multiple: 64, min_size: 64, max_size: 512}
"""
READER = TINY.replace("name: tiny", "name: reader").replace(
    "stages:", "decoder_reads_text: true\nstages:"
)
FLOWLESS = PRIORLESS.replace("priorless", "flowless").replace("[text_to_image]", "[variation]")
MODELS = {"tiny": TINY, "reader": READER, "priorless": PRIORLESS, "flowless": FLOWLESS}


@pytest.fixture
def catalog(tmp_path):
    for name, text in MODELS.items():
        (tmp_path / f"{name}.yaml").write_text(text, encoding="utf-8")
    return tmp_path


@pytest.fixture
async def stages():
    async with FakeStages() as fake:
        yield fake


@pytest.fixture
def gateway_at(catalog, stages):
    """Starts a gateway with some settings of its own; gives it and a channel to it."""

    @asynccontextmanager
    async def start(**settings):
        config = GatewayConfig(
            **{
                "listen": "127.0.0.1:0",
                "stages": stages.address,
                "models": tuple(MODELS),
                "catalog": (catalog,),
                "drain_seconds": 0,
                **settings,
            }
        )
        gateway = Gateway(config)
        port = await gateway.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS) as channel:
            yield gateway, channel
        await gateway.stop()

    return start


@pytest.fixture
async def channel(gateway_at):
    # One job at once, so that the order of stage calls is told and not raced.
    async with gateway_at(max_jobs=1) as (_, channel):
        yield channel


@pytest.fixture
def api(channel):
    return GenerationServiceStub(channel)


class Clock:
    """Time that passes only where a test says so."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    """The clock of every Patience."""
    clock = Clock()
    monkeypatch.setattr(patience, "time", clock)
    return clock
