"""LoRAs come and go; each row has those that its slots name."""

import torch

from services.adapters.lora_file import LowRank
from services.adapters.row_lora import RowLora

WIDTH, RANK = 6, 2


def network() -> torch.nn.Sequential:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(WIDTH, WIDTH), torch.nn.Linear(WIDTH, WIDTH))


def lora(seed: int, *modules: str, rank: int = RANK) -> dict[str, LowRank]:
    torch.manual_seed(seed)
    return {
        module: LowRank(torch.randn(rank, WIDTH), torch.randn(WIDTH, rank)) for module in modules
    }


def expected(module: torch.nn.Sequential, inputs: torch.Tensor, made: dict[str, LowRank]) -> object:
    """By weights that hold the differences."""
    for name, layer in module.named_children():
        change = made[name].up @ made[name].down if name in made else 0
        inputs = torch.nn.functional.linear(inputs, layer.weight + change, layer.bias)
    return inputs


def assert_rows(loras: RowLora, module: torch.nn.Sequential, by_slot: dict) -> None:
    inputs = torch.randn(len(by_slot), WIDTH)
    slots = torch.tensor(list(by_slot))[:, None]
    with loras.of_rows(slots, torch.ones_like(slots, dtype=torch.float)):
        found = module(inputs)
    for row, made in enumerate(by_slot.values()):
        torch.testing.assert_close(found[row], expected(network(), inputs[row], made))


def test_more_loras_than_there_was_room_for() -> None:
    module = network()
    loras = RowLora(module, torch.empty(0))
    loras.attach()
    made = [lora(seed, "0" if seed % 2 else "1", rank=1 + seed % 3) for seed in range(40)]
    by_slot = {loras.add(each): each for each in made}
    assert len(by_slot) == 40
    assert_rows(loras, module, {0: {}, **by_slot})


def test_one_goes_and_its_slot_is_another_s() -> None:
    module = network()
    loras = RowLora(module, torch.empty(0))
    loras.attach()
    first, second, third = (lora(seed, "0", "1") for seed in range(3))
    slots = [loras.add(each) for each in (first, second, third)]
    loras.remove(slots[1])
    assert_rows(loras, module, {slots[0]: first, slots[2]: third, slots[1]: {}})
    fourth = lora(4, "1")
    assert loras.add(fourth) == slots[1]
    assert_rows(loras, module, {slots[0]: first, slots[2]: third, slots[1]: fourth})


def test_the_last_of_a_layer_frees_it() -> None:
    loras = RowLora(network(), torch.empty(0))
    loras.remove(loras.add(lora(0, "0")))
    assert not loras._layers
