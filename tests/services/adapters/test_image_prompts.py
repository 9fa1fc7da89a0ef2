"""What a UNet attends to lasts as long as its forward."""

import weakref
from pathlib import Path

import torch

from kandinsky.catalog.adapters import AdapterFolder
from kandinsky.v1.adapters_pb2 import Adapter, ImagePrompt
from kandinsky.wire import tensors
from services.adapters.ip_adapter_file import cross_attentions
from services.adapters.unet_adapters import UNetAdapters
from tests import tiny_ip_adapter, tiny_sd_inpaint


def test_nothing_of_a_forward_is_kept_after_it(tmp_path: Path) -> None:
    folder = tiny_sd_inpaint.build(tmp_path)
    tiny_ip_adapter.write(folder / "adapters", folder / "sd-inpaint", "plain", 0)
    network = tiny_sd_inpaint.unet()
    adapters = UNetAdapters(AdapterFolder(folder / "adapters"), network, torch.empty(0))
    embeds = tensors.encode(torch.ones(1, tiny_ip_adapter.EMBED).numpy())
    named = [Adapter(name="plain", image_prompt=ImagePrompt(image_embeds=embeds))]
    queries: list[weakref.ref[torch.Tensor]] = []
    for attention in cross_attentions(network):
        attention.to_q.register_forward_hook(
            lambda module, args, output: queries.append(weakref.ref(output))
        )
    inputs = torch.randn(1, network.config.in_channels, 8, 8)
    states = torch.randn(1, 77, network.config.cross_attention_dim)
    with torch.inference_mode(), adapters.hold(named):
        plain = network(inputs, torch.tensor([5]), states).sample
        with adapters.applied(adapters.rows(named, 1)):
            shown = network(inputs, torch.tensor([5]), states).sample
        again = network(inputs, torch.tensor([5]), states).sample
    assert len(queries) == 3 * len(cross_attentions(network))
    assert not any(query() is not None for query in queries)
    assert (shown - plain).abs().max() > 1e-3
    torch.testing.assert_close(again, plain, rtol=0, atol=0)
