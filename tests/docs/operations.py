"""Which blocks of docs/operations.md are executed on the test cluster (`tests/cluster/test_operations.py`), by their headings."""

EXECUTED = (
    "5. Values, and the release",
    "6. First key, first run",
    "Upgrade and rollback",
    "Backup and restore",
    "Uninstall",
)
NOT_EXECUTED = {
    "1. The cluster's own parts": "the test cluster reaches no repository of charts; it has the training operator already",
    "2. Images": "there is no docker and no registry; `make images` builds the same files",
    "3. Secrets": "of stores of one's own; the chart's bundled ones make theirs",
    "4. Data": "the test cluster has no provisioner for the claim; the tests fill one by the same tar",
    "Before it is made: `dayrun preflight`": "tests/cluster/test_preflight.py does it, finding by finding",
}
"""Heading → why not. Their blocks are parsed and their flags checked."""
