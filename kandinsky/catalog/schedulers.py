"""The noise schedulers that a request may choose for the decoder, by name."""

SCHEDULERS = (
    "ddpm",
    "ddim",
    "dpm-solver++",
    "euler",
    "euler-ancestral",
    "heun",
    "kdpm2",
    "kdpm2-ancestral",
    "lms",
    "pndm",
    "unipc",
    "lcm",
    "deis",
    "dpm-solver-singlestep",
)
WITH_ETA = ("ddim",)
"""Those that have DDIM's eta."""
