"""Fleet and money: in ten seconds, whether what is paid for trains; then where the money goes, and each run beside the others."""

from helm.boards.frame import INFO, Row, dashboard, grown, named, of_project, of_runs, project, quantile, to_page, to_run, whole
from helm.boards.style import Column, Panel, Query, bars, lines, number, rows_of

OURS = f"and on (run) {INFO}"
"""Runs of the chosen projects alone."""
COST = f"({of_runs('dayrun_run_dollars_per_hour')} {OURS})"
IN_STEPS = (
    "clamp(max by (run) (deriv(dayrun_run_step{$where}[$__rate_interval])) * on (run) " + of_runs("dayrun_run_step_seconds") + ", 0, 1)"
)
"""Of a run: the share of the time in which its steps were made."""
NOT_OVER = 'state!~"succeeded|failed|cancelled"'
MONTH = 'period="month"'
DATA_WAIT = of_runs("dayrun_run_step_part_seconds", matchers='part="data_wait"')
CHOSEN = 'project=~"$project"'
OF_RUNS = 'max by (run, name, project, accelerator) (dayrun_run_info{$where,project=~"$project"})'


def by_run(figures: str) -> str:
    """`figures` with everything that the table's rows say of a run."""
    return f"({figures}) * on (run) group_left (name, project, accelerator) {OF_RUNS}"


def fleet():
    return dashboard(
        "dayrun-fleet",
        "dayrun: fleet and money",
        "What runs, what it costs, and whether the money goes into training.",
        [project()],
        [
            Row("Is the money well spent?", at_a_glance()),
            Row("Runs that hold machines", [table_of_runs()]),
            Row("Money", money()),
            Row("Machines and the queue", machines()),
            Row("How runs fare", faring()),
        ],
    )


def at_a_glance() -> list[Panel]:
    return [
        number(
            "Dollars an hour",
            "currencyUSD",
            "What all held accelerators cost now, at the prices of the recipes.",
            Query(f"sum({of_project('dayrun_dollars_per_hour')}) or vector(0)"),
            first="text",
        ),
        number(
            "Of it, into training steps",
            "percentunit",
            "Share of the money of now that is spent while steps are made: the time in steps of each run, weighed by what it costs. "
            "The rest goes "
            "into starts, checkpoints, pictures, evaluations and standing still.",
            Query(f"(sum({COST} * on (run) {IN_STEPS}) or vector(0)) / sum({COST})"),
            steps=[(0.5, "orange"), (0.8, "green")],
            first="red",
        ),
        number(
            "Share of peak",
            "percentunit",
            "FLOP of the training over what matrix products reached on the same machines, weighed by what each run costs. "
            "Utilisation as drivers "
            "tell it is 100 % in a deadlock, too; this is not.",
            Query(
                f"sum({COST} * on (run) {of_runs('dayrun_run_peak_ratio')}) / sum({COST} and on (run) {of_runs('dayrun_run_peak_ratio')})"
            ),
            steps=[(0.15, "orange"), (0.3, "green")],
            first="red",
        ),
        number(
            "Paid while silent, an hour",
            "currencyUSD",
            "What those runs cost an hour whose trainer has told of no step for two minutes.",
            Query(f"sum({COST} and on (run) ({of_runs('dayrun_run_silent_seconds')} > 120)) or vector(0)"),
            steps=[(0.01, "orange"), (50, "red")],
        ),
        number(
            "Most of a budget used",
            "percentunit",
            "Of the project and period that have used most of what they may spend.",
            Query(
                f"max({of_project('dayrun_spent_dollars', 'period')} / {of_project('dayrun_budget_dollars', 'period')})",
            ),
            steps=[(0.8, "orange"), (1, "red")],
            nothing="no budgets",
        ),
        number(
            "Alerts",
            "none",
            "Alerts of dayrun that fire now; each has a page among the runbooks.",
            Query('count(ALERTS{$where,alertname=~"Dayrun.+",alertstate="firing"}) or vector(0)'),
            steps=[(1, "red")],
        ),
    ]


def table_of_runs() -> Panel:
    left = [(1.15, "orange"), (1.5, "red")]
    return rows_of(
        "Runs",
        "One row for each run that holds machines. A click on a run leads to its dashboard, one on its name to its samples.",
        {"run": "Run", "name": "Name", "project": "Project", "accelerator": "On"},
        Column("Done", by_run(f"{of_runs('dayrun_run_step')} / {of_runs('dayrun_run_steps_planned')}"), "percentunit"),
        Column("To go", by_run(of_runs("dayrun_run_eta_seconds")), "s"),
        Column("Time, of planned", by_run(of_runs("dayrun_run_estimate_ratio")), "percentunit", left),
        Column("Spent", by_run(of_runs("dayrun_run_dollars")), "currencyUSD"),
        Column("An hour", by_run(of_runs("dayrun_run_dollars_per_hour")), "currencyUSD"),
        Column("Share of peak", by_run(of_runs("dayrun_run_peak_ratio")), "percentunit", [(0.15, "orange"), (0.3, "green")], "red"),
        Column(
            "Waits for data",
            by_run(f"{DATA_WAIT} / {of_runs('dayrun_run_step_seconds')}"),
            "percentunit",
            [(0.05, "orange"), (0.2, "red")],
        ),
        Column("Silent", by_run(of_runs("dayrun_run_silent_seconds")), "s", [(120, "orange"), (600, "red")]),
        Column("Checkpoint", by_run(of_runs("dayrun_run_checkpoint_age_seconds")), "s"),
        Column("Slow ranks", by_run(of_runs("dayrun_run_straggling_ranks")), "none", [(1, "red")]),
        links={"Run": [to_run()], "Name": [to_page()]},
        sorted_by="An hour",
    )


def money() -> list[Panel]:
    return [
        lines(
            "Dollars an hour by project",
            "currencyUSD",
            "What the accelerators cost that each project holds.",
            Query(f"sum by (project) ({of_project('dayrun_dollars_per_hour')})", "{{project}}"),
            stacked=True,
            least=0,
        ),
        lines(
            "Spent this month",
            "currencyUSD",
            "Since the month began (UTC), attempts under way included; the budgets are dashed.",
            Query(f"sum by (project) ({of_project('dayrun_spent_dollars', matchers=MONTH)})", "{{project}}"),
            Query(f"sum by (project) ({of_project('dayrun_budget_dollars', matchers=MONTH)})", "{{project}}, budget"),
            least=0,
            dashed=", budget$",
        ),
        bars(
            "Budgets used",
            "percentunit",
            "Of each budget, by project and period. At 80 % people are told; at 100 % nothing more is launched.",
            Query(
                f"{of_project('dayrun_spent_dollars', 'period')} / {of_project('dayrun_budget_dollars', 'period')}",
                "{{project}}, {{period}}",
            ),
            steps=[(0.8, "orange"), (1, "red")],
            most=1,
        ),
    ]


def machines() -> list[Panel]:
    return [
        lines(
            "Accelerators held",
            "none",
            "By project, and dashed how many there are.",
            Query(f"sum by (project) ({of_project('dayrun_accelerators_held')})", "{{project}}"),
            Query(f"sum({whole('dayrun_accelerators_max')})", "there are"),
            stacked=True,
            least=0,
            stairs=True,
            dashed="^there are$",
        ),
        lines(
            "Runs by state",
            "none",
            "Of all projects; those that are over are left out.",
            Query(f"sum by (state) ({whole('dayrun_runs', 'state', matchers=NOT_OVER)})", "{{state}}"),
            stacked=True,
            least=0,
            stairs=True,
            colours={
                "running": "green",
                "queued": "blue",
                "launching": "yellow",
                "paused": "purple",
                "pausing": "purple",
                "cancelling": "orange",
            },
        ),
        lines(
            "Longest wait in the queue",
            "s",
            "How long the run that waits longest has been queued.",
            Query(f"max({whole('dayrun_queue_oldest_seconds')})", "longest wait"),
            least=0,
        ),
    ]


def faring() -> list[Panel]:
    return [
        number(
            "Median wait in the queue",
            "s",
            "From joining the queue to the launch, of the attempts launched in the time in view.",
            Query(quantile(0.5, "dayrun_queue_wait_seconds", over="$__range"), now=True),
            span=6,
            graph=False,
            first="text",
        ),
        number(
            "Median time to the first step",
            "s",
            "From the launch to the first step, of the attempts that came so far in the time in view: images, data, compilation. It "
            "is paid for.",
            Query(quantile(0.5, "dayrun_first_step_seconds", over="$__range"), now=True),
            span=6,
            graph=False,
            steps=[(600, "orange"), (1800, "red")],
        ),
        number(
            "A step, of planned",
            "percentunit",
            "Median of measured over planned seconds of a step, of all stages of runs that succeeded so far. 100 %: as planned.",
            Query(quantile(0.5, "dayrun_estimate_step_ratio"), now=True),
            span=6,
            graph=False,
            steps=[(1.25, "orange"), (1.5, "red")],
        ),
        number(
            "Runs that are not shown",
            "none",
            "Of more than 200 runs that hold machines those with fewest accelerators have no figures of their own: the sums above "
            "lack them.",
            Query(f"sum({whole('dayrun_live_runs_dropped')})"),
            span=6,
            graph=False,
            steps=[(1, "orange")],
        ),
        lines(
            "Attempts that ended",
            "none",
            "By what ended them, in each interval of the curve; `none` ended as they should.",
            Query(f"sum by (cause) ({grown('dayrun_attempts_total', 'project', 'cause', matchers=CHOSEN)})", "{{cause}}"),
            stacked=True,
            least=0,
            colours={"none": "green", "unknown": "red", "diverged": "red", "oom": "orange", "preempted": "blue"},
        ),
        lines(
            "What ended attempts cost",
            "currencyUSD",
            "By project, of the attempts that ended in each interval of the curve.",
            Query(f"sum by (project) ({grown('dayrun_attempt_dollars_total', 'project', matchers=CHOSEN)})", "{{project}}"),
            stacked=True,
            least=0,
        ),
        lines(
            "Speed of each run",
            "suffix: images/s",
            "Of all its accelerators together. Nothing else of a run moves as soon as something is wrong.",
            Query(named(of_runs("dayrun_run_images_per_second")), "{{name}}"),
            least=0,
            links=[to_run(run="${__field.labels.run}")],
        ),
    ]
