"""One run: does it get better, where do its seconds and dollars go, is any rank slower than the others, is it safe."""

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.models import dashboard as models

from helm.boards.frame import Row, chosen_from, dashboard, of_run, to_page
from helm.boards.style import Mark, Panel, Query, lines, number

THIS = "${run}"
PODS = '=~"$pods-.*"'


def run():
    made = dashboard(
        "dayrun-run",
        "dayrun: one run",
        "A run while it holds machines: curves, speed by part and by rank, checkpoints, money. What is over is in dayrun's own page.",
        [the_run(), pods()],
        [
            Row("Where it stands", standing()),
            Row("Does it get better", curves()),
            Row("Where the seconds go", seconds()),
            Row("All ranks", ranks()),
            Row("Checkpoints and trouble", safety()),
            Row("Money", money()),
            Row("GPUs, as NVIDIA's exporter (DCGM) tells", gpus()),
        ],
        refresh="10s",
    )
    return made.annotations(marks()).link(to_page("Samples of this run", THIS).tooltip("Pictures, curves, events, logs"))


def the_run() -> builders.QueryVariable:
    """Shown by name and id; runs that held machines at the end of the time in view."""
    query = 'query_result(label_join(max by (run, name) (last_over_time(dayrun_run_info{$where}[$__range])), "both", " · ", "name", "run"))'
    return chosen_from("run", "Run", "Which run.", query, everything=False, pattern='/both="(?<text>[^"]+ · (?<value>[^"]+))"/')


def pods() -> builders.QueryVariable:
    """What the names of the run's pods begin with: of `run_01…` it is `run-01…`."""
    seen = 'max by (run) (last_over_time(dayrun_run_info{run="$run"}[$__range]))'
    query = f'query_result(label_replace({seen}, "pods", "run-$1", "run", "run_(.+)"))'
    variable = chosen_from("pods", "Pods", "Beginning of its pods' names.", query, everything=False, pattern='/pods="(?<value>[^"]+)"/')
    return variable.hide(models.VariableHide.HIDE_VARIABLE)


def marks() -> list[Mark]:
    """Events, as far as figures tell of them."""
    attempt = of_run("dayrun_run_attempt")
    before = 'max by (run) (dayrun_run_attempt{$where,run="$run"} offset $__interval)'
    saved = 'max by (run) (changes(dayrun_run_checkpoint_step{$where,run="$run"}[$__rate_interval])) > 0'
    stopping = of_run("dayrun_run_state", "state", matchers='state=~"pausing|cancelling"')
    firing = 'max by (alertname) (ALERTS{$where,run="$run",alertstate="firing"})'
    return [
        Mark("An attempt begins", f"{attempt} unless ({before} == {attempt})", "blue", "An attempt begins"),
        Mark("Checkpoint", saved, "green", "A checkpoint is complete"),
        Mark("Trouble", f"{troubles()} > 0", "orange", "{{type}}"),
        Mark("Stopping", stopping, "purple", "{{state}}"),
        Mark("Alert", firing, "red", "{{alertname}}"),
    ]


def troubles() -> str:
    """How many there were in an interval, by type. Each begins with its first: `increase` would not see that one."""
    now = of_run("dayrun_run_troubles_total", "type")
    before = 'max by (run, type) (dayrun_run_troubles_total{$where,run="$run"} offset $__rate_interval)'
    seen = 'on (run) dayrun_run_info{$where,run="$run"} offset $__rate_interval'
    return f"({now} - ({before} or 0 * {now} and {seen}))"


def standing() -> list[Panel]:
    return [
        number(
            "State",
            "none",
            "Of the run. Empty once it holds no machines: then dayrun's own page tells the rest.",
            Query(of_run("dayrun_run_state", "state"), "{{state}}"),
            span=3,
            graph=False,
            by_name=True,
            nothing="holds no machines",
        ),
        number(
            "Done",
            "percentunit",
            "Optimizer steps done, of all stages' steps.",
            Query(f"{of_run('dayrun_run_step')} / {of_run('dayrun_run_steps_planned')}"),
            span=3,
            first="text",
        ),
        number("Step", "none", "The newest optimizer step.", Query(of_run("dayrun_run_step")), span=3, first="text"),
        number(
            "To go",
            "s",
            "Until the last step, at the pace of the last steps; a later stage of larger pictures will be slower.",
            Query(of_run("dayrun_run_eta_seconds")),
            span=3,
            first="text",
        ),
        number(
            "Time, of planned",
            "percentunit",
            "Hours that the run will come to at its present pace, over those that it was accepted with. 100 %: as planned.",
            Query(of_run("dayrun_run_estimate_ratio")),
            span=3,
            steps=[(1.15, "orange"), (1.5, "red")],
        ),
        number("Spent", "currencyUSD", "What all attempts have cost so far.", Query(of_run("dayrun_run_dollars")), span=3, first="text"),
        number(
            "Share of peak",
            "percentunit",
            "FLOP of a step over what a matrix product reached at the attempt's start, on the same machines.",
            Query(of_run("dayrun_run_peak_ratio")),
            span=3,
            steps=[(0.15, "orange"), (0.3, "green")],
            first="red",
        ),
        number(
            "Silent",
            "s",
            "Since the trainer last told of a step.",
            Query(of_run("dayrun_run_silent_seconds")),
            span=3,
            steps=[(120, "orange"), (600, "red")],
        ),
    ]


def curves() -> list[Panel]:
    return [
        lines(
            "Loss",
            "none",
            "Of the newest step, over all ranks.",
            Query(of_run("dayrun_run_loss"), "loss"),
            span=12,
            colours={"loss": "blue"},
        ),
        lines(
            "Loss by noise level",
            "none",
            "Squared error of velocities of samples with t in three ranges: little noise, some, much. A loss that only falls at one "
            "end hides here.",
            Query(of_run("dayrun_run_loss_by_noise", "noise"), "t {{noise}}"),
            span=12,
        ),
        lines(
            "Parts of the loss",
            "none",
            "Before their weights: flow matching, and what the recipe adds to it.",
            Query(of_run("dayrun_run_loss_part", "part"), "{{part}}"),
            log=True,
        ),
        lines(
            "Gradient norm",
            "none",
            "Before clipping. It rises before a loss diverges.",
            Query(of_run("dayrun_run_gradient_norm"), "gradient norm"),
            log=True,
            colours={"gradient norm": "purple"},
        ),
        lines(
            "Learning rate",
            "none",
            "Of the newest step: the warm-up, the plateau and the way down.",
            Query(of_run("dayrun_run_learning_rate"), "learning rate"),
            least=0,
            colours={"learning rate": "orange"},
        ),
        lines(
            "Evaluations",
            "none",
            "Newest scores: lower is better of losses and distances, higher of alignment.",
            Query(of_run("dayrun_run_score", "score"), "{{score}}"),
            span=24,
            height=7,
            log=True,
            stairs=True,
        ),
    ]


def seconds() -> list[Panel]:
    rest = f"clamp_min({of_run('dayrun_run_step_seconds')} - sum by (run) ({of_run('dayrun_run_step_part_seconds', 'part')}), 0)"
    return [
        lines(
            "Parts of a step",
            "s",
            "Means over ranks. `data_wait` should be next to nothing; waits for slower ranks are in `communication`; `rest` is what "
            "no part covers.",
            Query(of_run("dayrun_run_step_part_seconds", "part"), "{{part}}"),
            Query(rest, "rest"),
            span=12,
            stacked=True,
            least=0,
            colours={
                "data_wait": "red",
                "forward": "blue",
                "backward": "purple",
                "communication": "orange",
                "optimizer": "green",
                "rest": "text",
            },
        ),
        lines(
            "Time beside the steps",
            "percentunit",
            "Share of the time that went into checkpoints, pictures and evaluations.",
            Query('max by (run, part) (rate(dayrun_run_beside_seconds_total{$where,run="$run"}[$__rate_interval]))', "{{part}}"),
            span=12,
            stacked=True,
            least=0,
            colours={"checkpoint": "green", "preview": "blue", "evaluation": "purple"},
        ),
        lines(
            "Images a second",
            "suffix: images/s",
            "Of all accelerators together, over training steps alone. It drops at the beginning of a larger stage.",
            Query(of_run("dayrun_run_images_per_second"), "images a second"),
            least=0,
        ),
        lines(
            "Steps a second",
            "suffix: steps/s",
            "Over training steps alone.",
            Query(of_run("dayrun_run_steps_per_second"), "steps a second"),
            least=0,
        ),
        lines(
            "Share of peak over time",
            "percentunit",
            "FLOP of a step over what a matrix product reached at the attempt's start.",
            Query(of_run("dayrun_run_peak_ratio"), "share of peak"),
            least=0,
            steps=[(0.15, "orange"), (0.3, "green")],
            first="red",
        ),
    ]


def ranks() -> list[Panel]:
    own = of_run("dayrun_run_rank_step_seconds", "rank")
    return [
        lines(
            "A step, rank by rank",
            "s",
            "Each rank's own share of a step, without its waits for others. One line above the rest is a straggler: all others wait "
            "for it.",
            Query(own, "rank {{rank}}"),
            span=12,
            least=0,
        ),
        lines(
            "The slowest rank, of the median",
            "percentunit",
            "Own time of the slowest rank over the median rank's. 100 %: all alike.",
            Query(f"max by (run) ({own}) / quantile by (run) (0.5, {own})", "slowest rank"),
            span=6,
            steps=[(1.2, "orange"), (1.5, "red")],
        ),
        lines(
            "Memory of the fullest rank",
            "bytes",
            "Most that a rank has held so far: allocated on its GPU, or resident where there is none.",
            Query(of_run("dayrun_run_memory_peak_bytes"), "most held"),
            span=6,
            least=0,
        ),
    ]


def safety() -> list[Panel]:
    return [
        lines(
            "Age of the newest checkpoint",
            "s",
            "What a fault would cost now. Dashed: the time between two checkpoints at the present pace.",
            Query(of_run("dayrun_run_checkpoint_age_seconds"), "age"),
            Query(of_run("dayrun_run_checkpoint_due_seconds"), "between two"),
            least=0,
            dashed="^between two$",
        ),
        lines(
            "How long a checkpoint takes",
            "s",
            "Written beside the training for the most part; `stalled` is how long the training stood still for it.",
            Query(of_run("dayrun_run_checkpoint_seconds"), "written"),
            Query(of_run("dayrun_run_checkpoint_stalled_seconds"), "stalled"),
            least=0,
            stairs=True,
        ),
        lines(
            "Trouble",
            "none",
            "Events of trouble that the trainer told of, in each interval of the curve: skipped steps, spikes, roll-backs, hangs, "
            "stragglers, …",
            Query(troubles(), "{{type}}"),
            stacked=True,
            least=0,
            stairs=True,
        ),
    ]


def money() -> list[Panel]:
    return [
        lines(
            "Dollars",
            "currencyUSD",
            "Spent so far; dashed what it was predicted to cost when it was accepted, and what its recipe allows.",
            Query(of_run("dayrun_run_dollars"), "spent"),
            Query(of_run("dayrun_run_planned_dollars"), "predicted"),
            Query(of_run("dayrun_run_budget_dollars"), "allowed"),
            span=12,
            least=0,
            dashed="^(predicted|allowed)$",
            colours={"spent": "green", "predicted": "blue", "allowed": "red"},
        ),
        lines(
            "Time of planned, as it went",
            "percentunit",
            "Hours that the run will come to at its present pace, over those that it was accepted with.",
            Query(of_run("dayrun_run_estimate_ratio"), "of planned"),
            span=12,
            steps=[(1.15, "orange"), (1.5, "red")],
        ),
    ]


def gpus() -> list[Panel]:
    def by_gpu(figure: str) -> str:
        """With the labels that the operator's monitor makes (`exported_pod`), or those of the exporter itself (`pod`)."""
        return f"avg by (Hostname, gpu) ({figure}{{exported_pod{PODS}}} or {figure}{{pod{PODS}}})"

    return [
        lines(
            "Streaming multiprocessors at work",
            "percentunit",
            "Share of time in which a multiprocessor had work, by GPU. A GPU that waits in a collective shows here, not in its "
            "utilisation.",
            Query(by_gpu("DCGM_FI_PROF_SM_ACTIVE"), "{{Hostname}} {{gpu}}"),
            span=6,
            least=0,
            most=1,
        ),
        lines(
            "Tensor cores at work",
            "percentunit",
            "Share of time in which the tensor cores had work, by GPU.",
            Query(by_gpu("DCGM_FI_PROF_PIPE_TENSOR_ACTIVE"), "{{Hostname}} {{gpu}}"),
            span=6,
            least=0,
            most=1,
        ),
        lines(
            "Power",
            "watt",
            "By GPU. One that takes less than its neighbours is throttled, or waits.",
            Query(by_gpu("DCGM_FI_DEV_POWER_USAGE"), "{{Hostname}} {{gpu}}"),
            span=6,
            least=0,
        ),
        lines(
            "Memory in use",
            "bytes",
            "By GPU; the exporter tells MiB.",
            Query(f"{by_gpu('DCGM_FI_DEV_FB_USED')} * 1048576", "{{Hostname}} {{gpu}}"),
            span=6,
            least=0,
        ),
    ]
