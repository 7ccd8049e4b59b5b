"""A real Prometheus that scrapes a service once a second, with our rules."""

import json
from pathlib import Path
from urllib.request import urlopen

from service.parts import Part, program
from tests.conftest import ROOT

SCRAPE_SECONDS = 1
LABELS = {"cluster": "here", "namespace": "dayrun"}
"""What a Prometheus of a cluster puts on everything that it scrapes."""


class Prometheus(Part):
    name = "prometheus"

    def __init__(self, folder: Path, target: str) -> None:
        """target: host and port of the service."""
        super().__init__(folder)
        every = {"scrape_interval": f"{SCRAPE_SECONDS}s", "evaluation_interval": f"{SCRAPE_SECONDS}s"}
        scraped = {"job_name": "dayrun", "static_configs": [{"targets": [target], "labels": LABELS}]}
        rules = [str(file) for file in sorted((ROOT / "helm" / "dayrun" / "rules").glob("*.yaml"))]
        # JSON is YAML
        (self.folder / "prometheus.yml").write_text(json.dumps({"global": every, "rule_files": rules, "scrape_configs": [scraped]}))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        return [
            program("prometheus", package="prometheus"),
            f"--config.file={self.folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--enable-feature=exemplar-storage",
            "--log.level=warn",
        ]

    def answers(self) -> bool:
        with urlopen(f"{self.url}/-/ready", timeout=5) as answer:
            return answer.status == 200
