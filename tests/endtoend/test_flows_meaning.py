"""Every flow on `shapes` does what its name says; inpainting and outpainting have a file beside."""

import random

import grpc
import numpy as np
import pytest
from PIL import Image

from kandinsky.client import Client, Embedding, Interpolation
from kandinsky.v1 import encoders_pb2, encoders_pb2_grpc
from kandinsky.wire import tensors
from kandinsky.wire.channels import OPTIONS
from tests.endtoend.cases import CASES, Case, assert_shows, at_once, said
from tests.endtoend.conftest import System
from training.shapes.classifier import classify, overlap
from training.shapes.drawing import depth_map, draw, layers
from training.shapes.flows import ink
from training.shapes.vocabulary import Scene


@pytest.mark.parametrize("interpolation", ["linear", "spherical"])
def test_a_mix_moves_the_colour(client: Client, interpolation: str) -> None:
    def red_and_blue(weight: float) -> np.ndarray:
        images = client.mix(
            ["a red circle on a white background", "a blue circle on a white background"],
            [1 - weight, weight],
            interpolation=interpolation,
            images_per_prompt=4,
            seed=0,
        )
        pixels = np.stack([image.array for image in images]).astype(float)
        circle = pixels[pixels.sum(-1) < 620]
        return circle.mean(0)[[0, 2]]

    start, middle, end = (red_and_blue(weight) for weight in (0.0, 0.5, 1.0))
    assert start[0] > middle[0] + 30 > end[0] + 60
    assert start[1] < middle[1] - 30 < end[1] - 60


def test_a_spherical_blend_keeps_the_length_of_its_ends(client: Client, system: System) -> None:
    """As an embedding made by hand shows; a linear blend, being shorter, makes another image."""
    scenes = [Scene("star", "green", "black", "big"), Scene("circle", "red", "white", "big")]
    metadata = [("application", "shapes-encoders")]
    with grpc.insecure_channel(system.stages, options=OPTIONS) as channel:
        stub = encoders_pb2_grpc.EncoderServiceStub(channel)
        ends = []
        for scene in scenes:
            pixels = tensors.encode(np.asarray(draw(scene, random.Random(0))))
            request = encoders_pb2.EncodeImageRequest(pixels=pixels)
            embed = stub.EncodeImage(request, metadata=metadata).image_embed
            ends.append(tensors.decode(embed, "image_embed"))

    lengths = [np.linalg.norm(end) for end in ends]
    toward = ends[0] / lengths[0] + ends[1] / lengths[1]
    middle = np.mean(lengths) * toward / np.linalg.norm(toward)
    assert np.linalg.norm(np.mean(ends, 0)) < 0.8 * np.linalg.norm(middle)

    def mixed(embeds: list[np.ndarray], interpolation: Interpolation) -> np.ndarray:
        sides = [Embedding(embed) for embed in embeds]
        weights = [1 / len(sides)] * len(sides)
        [image] = client.mix(sides, weights, interpolation=interpolation, seed=0)
        return image.array.astype(int)

    by_hand = mixed([middle], "linear")
    assert np.abs(mixed(ends, "spherical") - by_hand).max() <= 1
    assert np.abs(mixed(ends, "linear") - by_hand).max() > 30


def test_frames_go_all_the_way(client: Client) -> None:
    scene = Scene("circle", "red", "white", "")
    ends = (said(scene), said(Scene("circle", "blue", "white", "")))
    frames = client.interpolate_frames(*ends, 5, seed=0)
    red = [frame.array[ink(frame.image, scene)][:, 0].astype(float).mean() for frame in frames]
    assert [classify(frames[i].image).colour for i in (0, 4)] == ["red", "blue"]
    assert red[0] > red[2] > red[4]


def test_a_variation_keeps_colour_and_shape(client: Client) -> None:
    varied = at_once(lambda c: client.variation(c.image, seed=c.seed)[0].image, CASES)
    assert_shows(varied, [c.scene for c in CASES])


def test_image_to_image_keeps_the_layout_at_low_strength(client: Client) -> None:
    """Overlap of the object before and after, where the prompt leaves it what it is."""

    def kept(strength: float) -> float:
        def one(c: Case) -> float:
            [image] = client.image_to_image(
                c.image, said(c.scene), strength=strength, guidance_scale=2, seed=c.seed
            )
            return overlap(ink(image.image, c.scene), c.shape)

        return float(np.mean(at_once(one, CASES)))

    low, high = kept(0.1), kept(1.0)
    assert low > 0.65, low
    assert low > high + 0.15, (low, high)


def test_image_to_image_follows_the_prompt_at_high_strength(client: Client) -> None:
    made = at_once(
        lambda c: client.image_to_image(c.image, said(c.other), strength=1.0, seed=c.seed)[0],
        CASES,
    )
    assert_shows([image.image for image in made], [c.other for c in CASES])


def test_a_text_guided_edit_turns_the_colour_and_keeps_the_shape(client: Client) -> None:
    scenes = [
        Scene(shape, "red", ground, "big")
        for shape in ("circle", "square", "triangle", "star", "ring", "cross")
        for ground in ("white", "yellow")
    ]
    targets = [Scene(scene.shape, "blue", scene.background, "big") for scene in scenes]

    def edit(index: int) -> Image.Image:
        image = draw(scenes[index], random.Random(index))
        texts = said(scenes[index]), said(targets[index])
        return client.text_guided_edit(image, *texts, seed=index)[0].image

    assert_shows(at_once(edit, range(len(scenes))), targets)


def test_control_draws_where_the_depth_map_says(client: Client) -> None:
    def drawn(c: Case) -> Image.Image:
        hint = depth_map(layers(c.scene, random.Random(c.seed))[0], near=230, far=40)
        prompt = said(c.scene)
        [image] = client.control(hint, prompt, model="shapes-depth", seed=c.seed)
        return image.image

    images = at_once(drawn, CASES)
    assert_shows(images, [c.scene for c in CASES])
    overlaps = [overlap(ink(p, c.scene), c.shape) for p, c in zip(images, CASES, strict=True)]
    assert np.mean(overlaps) > 0.6, overlaps
    shifted = [
        overlap(ink(p, c.scene), np.roll(c.shape, 40, axis=(0, 1)))
        for p, c in zip(images, CASES, strict=True)
    ]
    assert np.mean(overlaps) > np.mean(shifted) + 0.25, shifted
