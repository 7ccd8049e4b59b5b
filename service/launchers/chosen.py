"""The launcher that the settings ask for: torchrun on this machine, or PyTorchJobs on the cluster that `DAYRUN_CLUSTER` describes."""

from service.launchers import Launcher
from service.launchers.local import LocalLauncher
from service.settings import Settings


def launcher_of(settings: Settings) -> Launcher:
    """Raises WrongProfile and Away where the settings name a cluster that cannot be used."""
    if settings.cluster is None:
        return LocalLauncher(settings)
    # here and not above: a service that trains on its own machine needs no client of Kubernetes, which is slow to import
    from k8s.api import Api
    from k8s.profile import ClusterProfile
    from service.launchers.kubernetes import KubernetesLauncher

    return KubernetesLauncher(settings, ClusterProfile.load(settings.cluster), Api.from_environment())
