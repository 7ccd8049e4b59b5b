"""`python -m service.metrics_page --write`: docs/metrics.md, from the catalogue that /metrics itself is made from."""

import sys
from pathlib import Path

from service.metrics.catalogue import GROUPS, LABELS, MOST_RUNS, Figure, Source

PAGE = Path(__file__).resolve().parents[1] / "docs" / "metrics.md"
HEAD = f"""# Metrics

Everything that `GET /metrics` of the API tells, in Prometheus' text format, or in OpenMetrics (with exemplars) for who asks for that.
`make schema` writes this page. Rules and alerts: [runbooks](runbooks/README.md); `make watch` starts a Prometheus with them beside
the service.

Names have base units, and counters end in `_total`. No figure but those of a live run names a run, so that the number of series is bounded:
it does not grow with the runs that there were. A run's own series begin with its launch and end with its attempt, whose curves stay in its
[folder](run-folder.md) and under `GET /runs/{{run_id}}/metrics`; at most {MOST_RUNS} runs have some at a time, those that hold most
accelerators, and `dayrun_live_runs_dropped` counts the others.

## How to add them up

Several API processes, one a pod, each answer for themselves. What the sections say of a figure decides what to do with its copies:

| figures | are | several processes | an API process that starts anew |
| --- | --- | --- | --- |
| `process` | what one API process knows of itself | `sum` | its counters begin at 0, as `rate` expects |
| `service` | of the database or the broker, the same whoever serves them | `max` | changes nothing: counters are added up from rows |
| `run` | as `service`, of each run that holds machines | `max by (run)` | changes nothing |

```
sum by (route) (rate(dayrun_http_requests_total[5m]))                                              # process
sum by (cause) (max by (project, cause) (increase(dayrun_attempts_total[1d])))                     # service: first the max, then sums
max by (run) (dayrun_run_loss) * on (run) group_left (name) max by (run, name) (dayrun_run_info)   # run, with its name
```

Workers have no port: what they do is in the database, and told from there. With the database away an API process tells `dayrun_part_up` and
what it knows of itself, and nothing else. `process_*` (CPU, memory, open files, start) is the usual set of Prometheus' own client.

An answer costs a fixed number of queries, whatever the number of runs.
"""


def table(figures: tuple[Figure, ...]) -> list[str]:
    lines = ["| name | kind | labels | |", "| --- | --- | --- | --- |"]
    for figure in figures:
        labels = ", ".join(f"`{label}`" for label in figure.labels)
        lines.append(f"| `{figure.name}` | {figure.kind} | {labels} | {figure.help} |")
    return lines


def page() -> str:
    lines = [HEAD]
    for title, (source, figures) in GROUPS.items():
        lines += [f"## {title} (`{source}`)", "", *table(figures), ""]
        if source == Source.RUN:
            lines += ["What was not measured yet has no series. Where it comes from: [the run folder](run-folder.md#metrics).", ""]
    lines += ["## Labels", "", "| label | values |", "| --- | --- |", *(f"| `{name}` | {about} |" for name, about in LABELS.items())]
    return "\n".join(lines) + "\n"


def main() -> int:
    if sys.argv[1:] == ["--write"]:
        PAGE.write_text(page())
    elif not PAGE.exists() or PAGE.read_text() != page():
        print("docs/metrics.md is not what the code has: run `make schema`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
