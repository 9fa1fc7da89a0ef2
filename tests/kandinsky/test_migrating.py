"""docs/migrating.md names pipelines, methods, commands, arguments and fields that exist."""

import inspect
import re
from pathlib import Path
from typing import Any, get_args

import diffusers
import pytest
import yaml

from kandinsky import Client
from kandinsky.cli.app import app
from kandinsky.client import canvases, guides, options, requests
from kandinsky.v1.generation_pb2 import GenerateRequest
from services.loading.runtime_options import RuntimeOptions

TEXT = Path(__file__).parents[2].joinpath("docs/migrating.md").read_text(encoding="utf-8")
OUTPUTS = {*get_args(options.OutputFormat)}


def table(heading: str) -> list[list[str]]:
    """Each row's cells as the names in them, below the head."""
    [section] = re.findall(rf"^## {heading}$(.*?)(?=^## )", TEXT, re.MULTILINE | re.DOTALL)
    rows = [line.split("|")[1:-1] for line in section.splitlines() if line.startswith("| ")]
    return [[re.findall(r"`([^`]+)`", cell) for cell in row] for row in rows[1:]]


def resolves(path: str) -> bool:
    """Whether a dotted path names a field of GenerateRequest."""
    message: Any = GenerateRequest.DESCRIPTOR
    for name in path.split("."):
        if message is None or name not in message.fields_by_name:
            return False
        message = message.fields_by_name[name].message_type
    return True


@pytest.mark.parametrize(("theirs", "ours", "commands", "paths"), table("Pipelines"))
def test_a_pipeline_has_its_method_and_command(theirs, ours, commands, paths):
    for name in theirs:
        found = diffusers
        for part in name.split("."):
            found = getattr(found, part)
    method, *options = ours
    flow = getattr(Client, method.removeprefix("client."))
    assert {*options} <= {*inspect.signature(flow).parameters}
    assert {*commands} <= {command.name for command in app.registered_commands}
    assert all(map(resolves, paths))


def test_a_method_s_request_has_the_fields_that_its_row_names():
    calls = {
        "client.text_to_image": requests.text_to_image("a"),
        "client.mix": requests.mix(["a"], [1]),
        "client.interpolate_frames": requests.interpolate_frames("a", "b", 2),
        "client.image_to_image": requests.image_to_image(b"file", "a", prior_strength=0.5),
        "client.inpaint": requests.inpaint(b"file", b"mask", "a"),
        "client.outpaint": requests.outpaint(b"file", "a", top=1),
        "client.variation": requests.variation(b"file"),
        "client.dual_guided": requests.dual_guided("a", b"file"),
        "client.control": requests.control(b"hint", "a", image=b"file"),
        "client.text_guided_edit": requests.text_guided_edit(b"file", "a", "b"),
        "client.generate": requests.generate(guides.text("a"), canvases.image(b"file"), b"hint"),
    }
    rows = table("Pipelines")
    assert {ours[0] for _, ours, _, _ in rows} == {*calls}
    for _, ours, _, paths in rows:
        for path in paths:
            message: Any = calls[ours[0]]
            for name in path.split("."):
                assert message.HasField(name), f"{ours[0]}: {path}"
                message = getattr(message, name)


def test_an_argument_has_its_parameter():
    methods = [getattr(Client, row[1][0].removeprefix("client.")) for row in table("Pipelines")]
    parameters = {name for method in methods for name in inspect.signature(method).parameters}
    for known in vars(options).values():
        parameters |= getattr(known, "__optional_keys__", frozenset())
    for theirs, ours, paths in table("Arguments"):
        for name in ours:
            if re.fullmatch(r"[a-z_]+", name):
                assert name in parameters | OUTPUTS | {"mix"}, f"for {theirs}"
        assert paths and all(map(resolves, paths)), f"for {theirs}"


def test_a_setting_of_a_pipeline_has_its_runtime_option():
    owners = {
        "pipeline": diffusers.StableDiffusionInpaintPipeline,
        "unet": diffusers.UNet2DConditionModel,
        "vae": diffusers.AutoencoderKL,
    }
    rows = table("Settings of a pipeline")
    assert len(rows) == 10
    for theirs, ours in rows:
        owner, _, method = theirs[0].partition(".")
        assert hasattr(owners[owner], method)
        for option in ours:
            assert RuntimeOptions(**yaml.safe_load(option)) != RuntimeOptions()


SETTINGS = (
    *("images_per_prompt", "height", "width", "steps", "guidance_scale", "prior_steps"),
    *("prior_guidance_scale", "seed", "output_format", "output_quality", "scheduler", "eta"),
    *("progress_every", "preview_every", "preview_mode"),
)
OPTIONS = (
    *("model", "prompts", "negative_prompts", "latents", "prior_latents", "image_embeds"),
    *("negative_image_embeds", "conditions", "weight", "interpolation", "negative_prompt"),
    *("negative_prior_prompt", "negative_image_embed", "prompt", "first", "last", "frames"),
    *("image", "images", "strength", "prior_strength", "mask", "masks", "padding_mask_crop"),
    *("top", "bottom", "left", "right", "hint", "hints", "source_prompt", "target_prompt"),
    *("amount", *(f"settings.{name}" for name in SETTINGS)),
)
"""Of the nine requests that GenerateRequest replaced."""


def test_every_option_of_before_has_a_home():
    rows = table("From the nine requests")
    assert {name for before, _ in rows for name in before} == {*OPTIONS}
    for before, now in rows:
        assert now and all(map(resolves, now)), before
