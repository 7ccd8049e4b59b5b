"""The data: do loaders keep up, does the cache help, is anything unreadable, is the store slow."""

from helm.boards.frame import Row, dashboard, named, of_runs, project, to_run
from helm.boards.style import Panel, Query, lines, number

WAITS = of_runs("dayrun_run_step_part_seconds", matchers='part="data_wait"')
OF_STEP = f"{WAITS} / {of_runs('dayrun_run_step_seconds')}"
HIT = 'result="hit"'
LINKS = [to_run(run="${__field.labels.run}")]


def rate(counter: str, matchers: str = "") -> str:
    """A second, of every run, in one copy of the counter."""
    return f"max by (run) (rate({counter}{{$where{',' if matchers else ''}{matchers}}}[$__rate_interval]))"


def opened(matchers: str = "") -> str:
    """Shards that the attempt has opened by run; hits and waits are series of their own, which copies of the service tell alike."""
    return f"sum by (run) ({of_runs('dayrun_run_cache_reads_total', 'result', matchers=matchers)})"


def ours(figures: str) -> str:
    return named(f"({figures})")


def data():
    return dashboard(
        "dayrun-data",
        "dayrun: data",
        "From the store to the step: loaders, caches, samples that could not be read.",
        [project()],
        [
            Row("Do steps wait for data", at_a_glance()),
            Row("Loaders", loaders()),
            Row("Cache", cache()),
        ],
    )


def at_a_glance() -> list[Panel]:
    return [
        number(
            "Most of a step spent waiting",
            "percentunit",
            "Of the run that waits most for its data.",
            Query(f"max({ours(OF_STEP)})"),
            span=6,
            steps=[(0.05, "orange"), (0.2, "red")],
        ),
        number(
            "Samples read",
            "suffix:/s",
            "Decoded a second, by the loaders of all runs.",
            Query(f"sum({ours(rate('dayrun_run_samples_read_total'))})"),
            span=6,
            first="text",
        ),
        number(
            "Unreadable samples",
            "none",
            "Samples of the attempts under way that could not be read; others stood in.",
            Query(f"sum({ours(of_runs('dayrun_run_bad_samples_total'))})"),
            span=6,
            steps=[(1, "orange"), (100, "red")],
        ),
        number(
            "Shards that lay in the cache",
            "percentunit",
            "Of the shards that the attempts under way have opened, how many needed no wait. The first epoch of a cold cache is slow "
            "by nature.",
            Query(f"sum({ours(opened(HIT))}) / (sum({ours(opened())}) > 0)"),
            span=6,
            steps=[(0.5, "orange"), (0.9, "green")],
            first="red",
            nothing="no cache",
        ),
    ]


def loaders() -> list[Panel]:
    return [
        lines(
            "Share of a step spent waiting",
            "percentunit",
            "Time that steps waited for samples, of the whole step. More than 5 %: more loader threads, a cache, or smaller pictures.",
            Query(ours(OF_STEP), "{{name}}"),
            span=12,
            least=0,
            steps=[(0.05, "orange"), (0.2, "red")],
            links=LINKS,
        ),
        lines(
            "Samples read and used",
            "suffix:/s",
            "Decoded by the loaders, and dashed those that steps took. Loaders that are ahead read as much as is used.",
            Query(ours(rate("dayrun_run_samples_read_total")), "{{name}}"),
            Query(ours(of_runs("dayrun_run_images_per_second")), "{{name}}, used"),
            span=12,
            least=0,
            dashed=", used$",
            links=LINKS,
        ),
        lines(
            "Unreadable samples by run",
            "none",
            "Since the attempt began; the run folder's `bad_samples/` names each.",
            Query(ours(of_runs("dayrun_run_bad_samples_total")), "{{name}}"),
            span=24,
            height=6,
            least=0,
            stairs=True,
            links=LINKS,
        ),
    ]


def cache() -> list[Panel]:
    return [
        lines(
            "Shards opened",
            "suffix:/s",
            "Those that lay in the cache, and those that were waited for.",
            Query(
                "sum by (result) (max by (run, result) (rate(dayrun_run_cache_reads_total{$where}[$__rate_interval])) "
                '* on (run) group_left () max by (run) (dayrun_run_info{$where,project=~"$project"}))',
                "{{result}}",
            ),
            stacked=True,
            least=0,
            colours={"hit": "green", "wait": "orange"},
        ),
        lines(
            "Threads that wait for a shard",
            "none",
            "Of the loaders of all ranks, on average. Waits are hidden as long as other threads keep ahead of the step.",
            Query(ours(rate("dayrun_run_cache_wait_seconds_total")), "{{name}}"),
            least=0,
            links=LINKS,
        ),
        lines(
            "Fetched from the store",
            "Bps",
            "Bytes of shards that were brought into caches.",
            Query(ours(rate("dayrun_run_cache_fetched_bytes_total")), "{{name}}"),
            least=0,
            links=LINKS,
        ),
        lines(
            "Shards fetched",
            "suffix:/s",
            "Shards that were brought into caches.",
            Query(ours(rate("dayrun_run_cache_fetched_shards_total")), "{{name}}"),
            span=12,
            least=0,
            links=LINKS,
        ),
        lines(
            "Requests asked again",
            "suffix:/s",
            "Requests to the store of the data that were slow and were sent a second time.",
            Query(ours(rate("dayrun_run_store_retries_total")), "{{name}}"),
            span=12,
            least=0,
            links=LINKS,
        ),
    ]
