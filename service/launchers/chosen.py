"""Where the settings want runs and programs: on this machine, or on the cluster that `DAYRUN_CLUSTER` describes."""

from service.launchers import Launcher, Programs
from service.launchers.local import LocalLauncher, LocalPrograms
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


def programs_of(settings: Settings) -> Programs:
    """Raises as `launcher_of` does."""
    if settings.cluster is None:
        return LocalPrograms(settings)
    from k8s.api import Api
    from k8s.profile import ClusterProfile
    from service.launchers.kubernetes import KubernetesPrograms

    return KubernetesPrograms(settings, ClusterProfile.load(settings.cluster), Api.from_environment())
