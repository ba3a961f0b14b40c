"""Which cluster, and what a worker has of it. Nothing here imports PyTorch or Ray: `latentface --help` reads it."""

from dataclasses import dataclass

from cyclopts import Group, Parameter

from latentface.errors import InputError


@Parameter(name="*", group=Group("Many machines", sort_key=5))
@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterSettings:
    """Where faces are computed besides this machine.

    Attributes:
        ray: Spread the faces over a Ray cluster: its address, or auto, the one that runs on this machine, else this
            machine's own cores and GPUs.
        ray_workers: How many faces, or batches of them, are computed at a time; by default one a GPU, or where there are
            none as many as the cluster has cores for. With more than there is room for, the others begin as machines join.
        ray_cores: Cores of a worker.
    """

    ray: str | None = None
    ray_workers: int | None = None
    ray_cores: int = 1

    def __post_init__(self) -> None:
        for name in ("ray_workers", "ray_cores"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"--{name.replace('_', '-')} is {value}; expected at least 1")
        if self.ray is None and (self.ray_workers is not None or self.ray_cores != 1):
            raise InputError(
                "--ray-workers and --ray-cores are of a cluster; name it with --ray ADDRESS, or --ray auto"
            )
