"""A gateway in front of fake stages, both on ports of their own."""

from contextlib import asynccontextmanager

import grpc.aio
import pytest

from gateway.server.app import Gateway
from gateway.server.config import GatewayConfig
from gateway.stages import patience
from kandinsky.catalog.families import FAMILIES
from kandinsky.v1.generation_pb2_grpc import GenerationServiceStub
from kandinsky.wire.channels import OPTIONS
from tests.gateway import priorless
from tests.gateway.fakes import FakeStages

TINY = """
name: tiny
description: A model with every stage.
family: kandinsky-2-2
stages:
  encoders: {model: shapes}
  prior: {weights: {hub: example/prior, revision: main}}
  decoder:
    weights: {hub: example/decoder, revision: main}
    inpaint: {hub: example/inpaint, revision: main}
size: {height: 64, width: 128, min: 64, max: 1024}
samplers:
  prior: {steps: 5, guidance_scale: 2, max_steps: 50}
  decoder: {steps: 7, guidance_scale: 3, max_steps: 50}
limits: {max_prompt_characters: 40, max_images: 8}
"""
HINTED = TINY.replace("name: tiny", "name: hinted") + "control: true\n"
READER = TINY.replace("name: tiny", "name: reader").replace("kandinsky-2-2", "kandinsky-2-1")
PRIORLESS = """
name: priorless
description: A model whose decoder reads texts.
family: priorless
stages:
  encoders: {weights: {hub: example/encoders, revision: main}}
  decoder: {weights: {hub: example/decoder, revision: main}}
size: {height: 64, width: 64, min: 64, max: 512}
samplers: {decoder: {steps: 7}}
"""
TEXTLESS = PRIORLESS.replace("name: priorless", "name: textless") + "guides: [embeddings]\n"
UPSCALING = """
name: upscaling
description: A model that makes its small images larger.
family: karlo
stages:
  encoders:
    weights: {hub: example/text, revision: main}
    image: {hub: example/image, revision: main}
  prior: {weights: {hub: example/prior, revision: main}}
  decoder: {weights: {hub: example/decoder, revision: main}}
size: {height: 64, width: 64, min: 64, max: 64}
samplers: {super_resolution: {steps: 6, max_steps: 20}}
"""
ATTENDING = """
name: attending
description: A model whose decoder attends to a text and an image.
family: versatile-diffusion
stages:
  encoders: {weights: {hub: example/encoders, revision: main}}
  decoder: {weights: {hub: example/decoder, revision: main}}
size: {height: 64, width: 64, min: 64, max: 512}
samplers: {decoder: {steps: 7}}
"""
MODELS = {
    "tiny": TINY,
    "hinted": HINTED,
    "reader": READER,
    "priorless": PRIORLESS,
    "textless": TEXTLESS,
    "upscaling": UPSCALING,
    "attending": ATTENDING,
}


@pytest.fixture
def catalog(tmp_path, monkeypatch):
    monkeypatch.setitem(FAMILIES, priorless.NAME, priorless.HOME)
    for name, text in MODELS.items():
        (tmp_path / f"{name}.yaml").write_text(text, encoding="utf-8")
    return tmp_path


@pytest.fixture
async def stages():
    async with FakeStages() as fake:
        yield fake


@pytest.fixture
def gateway_at(catalog, stages):
    """A context manager: a gateway with some settings of its own, and a channel to it."""

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
    # One job at once, so that the order of stage calls is determined.
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
