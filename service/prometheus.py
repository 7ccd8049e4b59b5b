"""A Prometheus on this machine that scrapes dayrun and evaluates the chart's rules: `make watch` starts one beside the service.

Everything is in a temporary folder and forgotten at the end: for trying rules and dashboards, and for the tests. A cluster has its own.
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

from service.launchers.local import ROOT
from service.parts import MissingProgram, Part, PartFailed, program
from service.serve import serve
from service.settings import Settings

RULES = ROOT / "helm" / "dayrun" / "rules"
"""The files that the chart makes PrometheusRules of."""


class Prometheus(Part):
    """One that scrapes `targets` (HOST:PORT) every `seconds`, and evaluates all rules as often.

    key: for targets that want one. labels: what everything that is scraped gets, such as a cluster's `namespace`.
    """

    name = "prometheus"

    def __init__(
        self, folder: Path, targets: list[str], seconds: float = 5.0, key: str | None = None, labels: dict[str, str] | None = None
    ) -> None:
        super().__init__(folder)
        self.url = f"http://127.0.0.1:{self.port}"
        every = f"{round(seconds * 1000)}ms"
        job: dict[str, Any] = {"job_name": "dayrun", "static_configs": [{"targets": targets, "labels": labels or {}}]}
        if key is not None:
            job["authorization"] = {"credentials": key}
        configuration = {
            "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every},
            "rule_files": [str(RULES / "*.yaml")],
            "scrape_configs": [job],
        }
        self._file = self.folder / "prometheus.yml"
        self._file.touch(0o600)  # it may hold a key
        self._file.write_text(json.dumps(configuration, indent=1))  # YAML, too

    def command(self) -> list[str]:
        options = {
            "config.file": self._file,
            "storage.tsdb.path": self.folder / "data",
            "web.listen-address": f"127.0.0.1:{self.port}",
            "enable-feature": "exemplar-storage",
            "log.level": "warn",
        }
        return [program("prometheus", package="prometheus"), *(f"--{name}={value}" for name, value in options.items())]

    def answers(self) -> bool:
        with urlopen(f"{self.url}/-/ready", timeout=5) as answer:
            return answer.status == 200

    def get(self, path: str, **parameters: str) -> Any:
        """The data of an answer of its API. Raises HTTPError, whose body says why, for an expression that it does not take."""
        with urlopen(f"{self.url}/api/v1/{path}?{urlencode(parameters)}", timeout=30) as answer:
            return json.load(answer)["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series of an instant query: `metric` with the labels, `value` with time and value."""
        return self.get("query", query=expression)["result"]


def main() -> int:
    """The service on the settings' address and a Prometheus beside it, until Ctrl-C."""
    settings = Settings()
    if not settings.port:
        print("watch: DAYRUN_PORT=0 takes any free port, and Prometheus must know which one: name a port", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="dayrun-prometheus-") as folder:
        prometheus = Prometheus(Path(folder), [f"{settings.host}:{settings.port}"], key=os.environ.get("DAYRUN_KEY"))
        try:
            prometheus.start()
        except (MissingProgram, PartFailed) as error:
            print(f"watch: {error}", file=sys.stderr)
            return 2
        print(f"Prometheus is ready: {prometheus.url}/alerts and /graph; what an alert means: docs/runbooks", flush=True)
        try:
            return serve(settings)
        finally:
            prometheus.stop()


if __name__ == "__main__":
    sys.exit(main())
