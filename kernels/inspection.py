"""What does each of our kernels take on a device of some compute capability, and does it fit?"""

from __future__ import annotations

from dataclasses import dataclass

from tracekit.architectures import Capability, multiprocessor

from .compile import Resources, Target, compile_source, resources, source
from .configuration import Configuration
from .occupancy import Occupancy, occupancy


@dataclass(frozen=True)
class Inspected:
    """One compiled kernel and the resources that it takes.

    `dynamic_shared` is its dynamic shared memory in bytes per block. `occupancy` says how many of its blocks fit a
    multiprocessor.
    """

    name: str
    taken: Resources
    dynamic_shared: int
    occupancy: Occupancy

    @property
    def problems(self) -> tuple[str, ...]:
        """Why the kernel does not run on the device, or not well. Empty if all is well."""
        taken, found = self.taken, []
        if taken.spilled_bytes or taken.stack_bytes:
            found.append(f"spills {taken.spilled_bytes} bytes a thread and has a stack of {taken.stack_bytes}")
        if not self.occupancy.blocks:
            found.append(f"does not fit a multiprocessor: {' and '.join(self.occupancy.limits)}")
        return tuple(found)


def inspect(configuration: Configuration, capability: Capability) -> tuple[Inspected, ...]:
    """All kernels of a configuration, compiled for this capability, by name. Needs neither a GPU nor a driver.

    Raises the errors of `compile_source`, for which more than 48 KB of static shared memory is an error as well. Raises
    TracekitError if the limits of the capability are not known.
    """
    limits = multiprocessor(capability)
    compiled = compile_source(source(configuration.source), Target(capability).architecture, configuration.macros)
    found = []
    for name, taken in sorted(resources(compiled).items()):
        dynamic = configuration.dynamic_shared.get(name, 0)
        holds = occupancy(limits, taken.threads, taken.registers, taken.shared_bytes + dynamic)
        found.append(Inspected(name, taken, dynamic, holds))
    return tuple(found)
