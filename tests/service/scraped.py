"""An answer of /metrics as a test looks at it."""

from prometheus_client.parser import text_string_to_metric_families

Key = tuple[str, tuple[tuple[str, str], ...]]


class Scraped:
    """Series by name and labels."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.families = list(text_string_to_metric_families(text))
        self.series: dict[Key, float] = {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value for family in self.families for sample in family.samples
        }

    def __call__(self, name: str, /, **labels: str) -> float:
        """The value of one series. Raises KeyError."""
        return self.series[name, tuple(sorted(labels.items()))]

    def labels(self, name: str, label: str) -> set[str]:
        """The values that `label` has in the series of `name`."""
        return {dict(labels)[label] for known, labels in self.series if known == name}

    @property
    def names(self) -> set[str]:
        return {name for name, _ in self.series}
