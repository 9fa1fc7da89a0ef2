"""A UNet in two parts: its outermost blocks, and the deep ones between them.

From one denoising step to the next the deep blocks' output changes little: DeepCache, arXiv
2312.00858, computes it at some steps and reuses it at those between. The outermost down block gives
the last up block its skip connections; what else that reads is the deep part's output.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from diffusers import UNet2DConditionModel

from services.loading.denoising_call import Call, denoising_call
from services.loading.runtime_options import RuntimeOptions

CUT = 1
"""Residual blocks of the last up block that are not of the deep part."""
SHALLOW_COST = 0.1
"""Of a shallow pass, to a whole one, for fair shares: 4 % of Kandinsky 2.2's operations at full
size, a fifth of the time of `shapes`."""


def splits(unet: UNet2DConditionModel, runtime: RuntimeOptions) -> bool:
    """Whether a UNet can be called in two parts: its outermost blocks attend to nothing.

    Not with networks that are kept off the device: they come back when they are called whole.
    """
    outermost = (unet.down_blocks[0], unet.up_blocks[-1])
    attend = any(getattr(block, "has_cross_attention", False) for block in outermost)
    return not attend and runtime.offload == "none"


class SplitUNet:
    """A UNet's whole pass, and the parts of it; each takes the arguments of its forward.

    Where it splits, a whole pass is one that keeps its deep part: one graph is compiled for both,
    and jobs that ask for different things share it.

    Args:
        unet: of diffusers.
        runtime: how it is called.
    """

    def __init__(self, unet: UNet2DConditionModel, runtime: RuntimeOptions) -> None:
        self._unet = unet
        self.splits = splits(unet, runtime)
        self.keeping: Call = denoising_call(self._keeping, runtime)
        """(output, deep): as `whole`, with the deep part's output [rows, C', h, w]."""
        self.shallow: Call = denoising_call(self._shallow, runtime)
        """(output,), given `deep` of an earlier step."""
        undivided = partial(denoising_call(unet, runtime), return_dict=False)
        self.whole: Call = self._whole if self.splits else undivided
        """(output,)"""

    def _whole(self, **arguments: Any) -> tuple[torch.Tensor, ...]:
        return self.keeping(**arguments)[:1]

    def _keeping(
        self, sample: torch.Tensor, timestep: torch.Tensor, **conditioning: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        unet = self._unet
        sample, time, states = self._read(sample, timestep, conditioning)
        skips = [sample]
        for block in unet.down_blocks:
            sample, more = block(hidden_states=sample, temb=time, **_attended(block, states))
            skips.extend(more)
        sample = unet.mid_block(sample, time, **_attended(unet.mid_block, states))
        for block in unet.up_blocks[:-1]:
            own = len(block.resnets)
            skips, taken = skips[:-own], skips[-own:]
            sample = block(
                hidden_states=sample,
                temb=time,
                res_hidden_states_tuple=tuple(taken),
                upsample_size=skips[-1].shape[2:],
                **_attended(block, states),
            )
        block = unet.up_blocks[-1]
        for resnet in block.resnets[:-CUT]:
            sample = resnet(torch.cat([sample, skips.pop()], dim=1), time)
        return self._last(sample, time, skips), sample

    def _shallow(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor,
        deep: torch.Tensor,
        **conditioning: Any,
    ) -> tuple[torch.Tensor]:
        sample, time, _ = self._read(sample, timestep, conditioning)
        skips = [sample]
        for resnet in self._unet.down_blocks[0].resnets[: CUT - 1]:
            sample = resnet(sample, time)
            skips.append(sample)
        return (self._last(deep, time, skips),)

    def _read(
        self, sample: torch.Tensor, timestep: torch.Tensor, conditioning: Mapping[str, Any]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The first features, the embedding of time and conditioning, and what is attended to."""
        unet, added = self._unet, conditioning["added_cond_kwargs"]
        states = conditioning.get("encoder_hidden_states")
        time = unet.time_embedding(unet.get_time_embed(sample=sample, timestep=timestep))
        further = unet.get_aug_embed(
            emb=time, encoder_hidden_states=states, added_cond_kwargs=added
        )
        if unet.config.addition_embed_type == "image_hint":
            further, hint = further
            sample = torch.cat([sample, hint], dim=1)
        states = unet.process_encoder_hidden_states(
            encoder_hidden_states=states, added_cond_kwargs=added
        )
        return unet.conv_in(sample), time + further, states

    def _last(
        self, deep: torch.Tensor, time: torch.Tensor, skips: list[torch.Tensor]
    ) -> torch.Tensor:
        unet, sample, block = self._unet, deep, self._unet.up_blocks[-1]
        for resnet in block.resnets[-CUT:]:
            sample = resnet(torch.cat([sample, skips.pop()], dim=1), time)
        found: torch.Tensor = unet.conv_out(unet.conv_act(unet.conv_norm_out(sample)))
        return found


def _attended(block: Any, states: torch.Tensor) -> dict[str, torch.Tensor]:
    attends = getattr(block, "has_cross_attention", False)
    return {"encoder_hidden_states": states} if attends else {}
