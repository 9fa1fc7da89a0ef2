"""What a step of the engine is beside its network: operations on the device, and reads of it."""

from benchmarks.operations.counting import operations
from benchmarks.report import Report, lines
from benchmarks.setup import Say, Setup

JOBS = (1, 8, 16)
SAMPLERS = {
    "DDPM": "ddpm",
    "DDIM": "ddim",
    "UnCLIP": "unclip",
    "DPM-Solver++": "dpm-solver++",
    "Euler": "euler",
}
BEFORE = (
    "The engine of before, which stepped a scheduler of diffusers for each job, took 1,155 "
    "operations outside the network and 112 host synchronisations a step of 16 DDPM jobs."
)


def measure(setup: Setup, say: Say) -> Report:
    """Counts a settled step of groups of one sampler."""
    rows = []
    for name, scheduler in SAMPLERS.items():
        say(name)
        for jobs in JOBS:
            found = operations(jobs, [scheduler])
            rows.append(
                {
                    "sampler": name,
                    "jobs": jobs,
                    "on the device": found.device.total(),
                    "on the host": found.host.total(),
                    "reads of the device": found.to_host.total(),
                }
            )
    return Report(
        title="Operations of a step outside the network",
        rows=rows,
        note=(
            "The production step runs on fake CUDA tensors, which have no data, so that a read of "
            "it would raise; each guided job has its own steps and guidance. Views count as "
            "operations, and copies to the device. On the host: of each job a draw of noise and "
            f"its copy into the buffer that goes to the device. {BEFORE}"
        ),
        plot=lines(rows, "sampler", "jobs", "on the device"),
    )
