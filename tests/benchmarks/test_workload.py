"""What the sides are asked for: fixed lists, and requests that carry all of an image."""

import io

import pytest
from PIL import Image

from benchmarks.workload import (
    MIXED_CANVASES,
    MIXED_SIZES,
    MIXED_STEPS,
    groups,
    mixed,
    plain,
    to_request,
    to_task,
)
from kandinsky.catalog.catalog import Catalog
from kandinsky.catalog.family import CanvasKind

ENTRY = Catalog.load()["shapes"]


def test_the_mixed_list_is_the_same_each_time_and_holds_every_kind() -> None:
    tasks = mixed(48)
    assert tasks == mixed(48)
    assert {task.canvas for task in tasks} == set(MIXED_CANVASES)
    assert {task.size for task in tasks} == set(MIXED_SIZES)
    shapes = [(task.size, task.steps) for task in tasks[:18]]
    assert sorted(shapes) == [(size, steps) for size in MIXED_SIZES for steps in MIXED_STEPS]
    assert len({task.guidance_scale for task in tasks}) > 1


def test_a_shorter_mixed_list_is_the_beginning_of_a_longer_one() -> None:
    assert mixed(48)[:16] == mixed(16)


def test_input_images_have_the_size_asked_for() -> None:
    for task in mixed(12):
        for png in filter(None, (task.image, task.mask)):
            assert Image.open(io.BytesIO(png)).size == (task.size, task.size)


@pytest.mark.parametrize("task", [plain(ENTRY, 1)[0], *mixed(3)], ids=lambda task: task.flow)
def test_a_request_carries_all_of_a_task(task) -> None:
    assert to_task(to_request(task, "shapes")) == task


def test_plain_images_are_one_group() -> None:
    assert groups(plain(ENTRY, 5)) == [[0, 1, 2, 3, 4]]


def test_a_task_names_its_flow() -> None:
    assert [task.flow for task in mixed(3)] == ["text", "text+image", "text+inpaint"]


def test_groups_hold_equal_parameters_and_inpainted_images_alone() -> None:
    tasks = mixed(48) * 2
    found = groups(tasks)
    assert sorted(index for group in found for index in group) == list(range(96))
    for group in found:
        first = tasks[group[0]]
        assert {tasks[index].parameters for index in group} == {first.parameters}
        assert len(group) == 1 if first.canvas is CanvasKind.INPAINT else len(group) >= 2
