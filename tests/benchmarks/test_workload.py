"""What the sides are asked for: fixed lists, and requests that carry all of a picture."""

import io

import pytest
from PIL import Image

from benchmarks.messages import to_picture, to_request
from benchmarks.workload import MIXED_FLOWS, MIXED_SIZES, MIXED_STEPS, groups, mixed, plain
from kandinsky.catalog.catalog import Catalog, Flow

ENTRY = Catalog.load()["shapes"]


def test_the_mixed_list_is_the_same_each_time_and_holds_every_kind() -> None:
    pictures = mixed(48)
    assert pictures == mixed(48)
    assert {picture.flow for picture in pictures} == set(MIXED_FLOWS)
    assert {picture.size for picture in pictures} == set(MIXED_SIZES)
    assert all(picture.steps in MIXED_STEPS for picture in pictures)
    assert len({picture.steps for picture in pictures}) > 5
    assert len({picture.guidance_scale for picture in pictures}) > 1


def test_a_shorter_mixed_list_is_the_beginning_of_a_longer_one() -> None:
    assert mixed(48)[:16] == mixed(16)


def test_input_pictures_have_the_size_asked_for() -> None:
    for picture in mixed(12):
        for png in filter(None, (picture.image, picture.mask)):
            assert Image.open(io.BytesIO(png)).size == (picture.size, picture.size)


@pytest.mark.parametrize("picture", [plain(ENTRY, 1)[0], *mixed(3)], ids=lambda one: one.flow)
def test_a_request_carries_all_of_a_picture(picture) -> None:
    assert to_picture(to_request(picture, "shapes")) == picture


def test_plain_pictures_are_one_group() -> None:
    assert groups(plain(ENTRY, 5)) == [[0, 1, 2, 3, 4]]


def test_groups_hold_equal_parameters_and_inpainted_pictures_alone() -> None:
    pictures = mixed(48) * 2
    found = groups(pictures)
    assert sorted(index for group in found for index in group) == list(range(96))
    for group in found:
        first = pictures[group[0]]
        assert {pictures[index].parameters for index in group} == {first.parameters}
        assert len(group) == 1 if first.flow is Flow.INPAINT else len(group) >= 2
