"""What `--help` says of each command beside its options: a table. A test walks it: every command has its entry, every example is valid."""

from dayrun.manual import Page

NOT_WELL = "It failed, was cancelled or paused, or the service refused."
ENDED = {0: "The run succeeded.", 1: NOT_WELL, 130: "Ctrl-C: the run trains on."}
FOLLOWED = {**ENDED, 0: "The run succeeded; with --detach: it was made."}
DATA = {1: "Data or store are not as they must be; what was committed stays.", 130: "Ctrl-C; the same command goes on from there."}
DATA_IN = "Folder or object-store prefix with a dataset.json."
DATA_OUT = "Folder or object-store prefix to write."

PAGES: dict[str, Page] = {
    "": Page(
        (
            ("dayrun serve", "Run the service on this machine."),
            ("dayrun plan prx-24h", "Say what the reference day takes, without a service."),
            ("dayrun run demo", "Train the built-in recipe `demo` and follow it."),
        )
    ),
    "serve": Page(
        (
            ("dayrun serve", "On 127.0.0.1:8765, with everything in ~/.dayrun."),
            ("dayrun serve --home /srv/dayrun --port 9000", "Elsewhere, on another port."),
            ("dayrun serve --stack", "With Postgres, Valkey and S3, started with their data in the home."),
        ),
        exits={0: "Ended by Ctrl-C or SIGTERM; runs train on.", 2: "It cannot start; nothing was changed, and stderr says why."},
        environment=("DAYRUN_HOME", "DAYRUN_DATA", "DAYRUN_*", "AWS_*"),
    ),
    "run": Page(
        (
            ("dayrun run demo", "Train a built-in recipe; follow it to its end."),
            ("dayrun run mine.json --set /seed=7 --label purpose=seeds", "A recipe of yours with one field changed."),
            ("dayrun run prx-24h --overrides cluster.json --priority 5 --detach", "Before others in the queue; do not wait."),
        ),
        exits=FOLLOWED,
    ),
    "plan": Page(
        (
            ("dayrun plan prx-24h", "Hours, dollars, memory, FLOP by part, verdicts."),
            ("dayrun plan mine.json --set /hardware/nodes=2 --explain", "With two nodes, and every line of the arithmetic."),
        ),
        exits={1: "The recipe makes no sense; stderr says where, why, and the nearest that does."},
    ),
    "list": Page(
        (
            ("dayrun list", "The 20 newest runs."),
            ("dayrun list --state running --state queued --project team-a", "What is under way in a project."),
            ("dayrun list --recipe /optimizer/kind=muon --limit 100 --json", "By a field of the recipe, as JSON lines."),
        )
    ),
    "show": Page((("dayrun show", "The newest run."), ("dayrun show 7e9a --json", "The one whose id holds 7e9a, with its recipe."))),
    "watch": Page((("dayrun watch", "Follow the newest run."),), exits=ENDED),
    "logs": Page(
        (
            ("dayrun logs", "Rank 0 of the newest attempt of the newest run."),
            ("dayrun logs 7e9a --attempt 2 --rank 5 --tail 100", "The last hundred lines of one process."),
            ("dayrun logs --rank launcher", "What torchrun, or the cluster, said."),
        )
    ),
    "pause": Page((("dayrun pause 7e9a", "Write a checkpoint and give the machines back."),)),
    "resume": Page((("dayrun resume 7e9a", "Queue it again."),)),
    "samples": Page((("dayrun samples --out sheet.png --width 64", "Pictures of 64 pixels, prompts down, steps across."),)),
    "report": Page(
        (
            ("dayrun report", "The newest run, as <run>.html here."),
            ("dayrun report 7e9a --out day.html --pdf", "Write day.html and day.pdf."),
        ),
        exits={1: "The service refused, the file cannot be written, or nothing can print it."},
        environment=("CHROMIUM",),
    ),
    "recipe": Page((("dayrun recipe show demo > mine.json", "A start for a recipe of your own."),)),
    "recipe list": Page((("dayrun recipe list", "Names and what they are for."),)),
    "recipe show": Page(
        (
            ("dayrun recipe show demo > mine.json", "As it is written: a start for your own."),
            ("dayrun recipe show prx-24h --effective", "With every default."),
        ),
        arguments={"NAME": "Name of a built-in recipe: `dayrun recipe list`."},
    ),
    "recipe check": Page(
        (
            ("dayrun recipe check mine.json", "Everything that is wrong with it, at once."),
            ("dayrun recipe check - < mine.json", "From a pipe."),
        ),
        arguments={"FILE": "Recipe as JSON; - is standard input."},
        exits={0: "It can be trained.", 1: "It cannot; a line for each reason."},
    ),
    "version": Page((("dayrun version", "Of the command line; the service's stands in its /openapi.json."),)),
    "completion": Page(
        (
            ("dayrun completion bash > ~/.local/share/bash-completion/completions/dayrun", "For bash."),
            ("dayrun completion zsh > ~/.zfunc/_dayrun", "For zsh, where ~/.zfunc is in fpath."),
            ("dayrun completion fish > ~/.config/fish/completions/dayrun.fish", "For fish."),
        ),
        arguments={"{bash|zsh|fish}": "The shell that is to complete."},
    ),
    "keys": Page((("dayrun keys create ci --project team-a --days 30", "A key for a machine."),)),
    "keys create": Page(
        (
            ("dayrun keys create --bootstrap", "On the server: the first operator's key."),
            ("dayrun keys create ci --project team-a --role writer --days 30", "For a project's machine, for 30 days."),
        ),
        arguments={"[NAME]": "What the key is for. Needed without --bootstrap."},
        environment=("DAYRUN_*",),
    ),
    "keys list": Page((("dayrun keys list", "Revoked and expired ones too."),)),
    "keys revoke": Page((("dayrun keys revoke key_01k8", "It opens nothing from then on."),)),
    "projects": Page((("dayrun projects members team-a", "Who is in a project."),)),
    "projects list": Page((("dayrun projects list", "With their quotas and budgets."),)),
    "projects create": Page((("dayrun projects create team-a --name 'Team A'", "A project without members and without limits."),)),
    "projects set": Page(
        (
            ("dayrun projects set team-a --accelerators 64 --dollars-per-month 20000", "Operators: a quota and a budget."),
            ("dayrun projects set team-a --dollars-per-day none", "Take a budget away."),
            ("dayrun projects set team-a --archived", "Take no new runs."),
        )
    ),
    "projects members": Page((("dayrun projects members team-a", "Subjects, roles, since when."),)),
    "projects add": Page(
        (("dayrun projects add team-a 'oidc:https://id.example.com|ada' writer", "Let somebody start runs."),),
        arguments={"{viewer|writer|admin}": "What they may do: read; start and stop runs; manage keys, members and webhooks."},
    ),
    "projects remove": Page((("dayrun projects remove team-a 'oidc:https://id.example.com|ada'", "Take their role away."),)),
    "data": Page((("dayrun data inspect my-shards", "What a data set is."),)),
    "data convert": Page(
        (
            ("dayrun data convert s3://raw/tars my-shards --pixels 256", "Tars of pictures with captions, to shards of 256 pixels."),
            ("dayrun data convert pictures my-shards --recipe mine.json", "Sizes as the recipe's last stage has them."),
        ),
        arguments={
            "SOURCE": "Folder or object-store prefix of tars, of pictures with captions, or of tables; or one of them.",
            "OUT": DATA_OUT,
        },
        exits=DATA,
        environment=("AWS_*",),
    ),
    "data text-latents": Page(
        (("dayrun data text-latents my-shards with-text --recipe mine.json", "States of the tower that the recipe names."),),
        arguments={"DATA": DATA_IN, "OUT": DATA_OUT},
        exits=DATA,
        environment=("AWS_*",),
    ),
    "data image-latents": Page(
        (("dayrun data image-latents my-shards with-latents --model ./autoencoder", "Latents by an autoencoder of this machine."),),
        arguments={"DATA": DATA_IN, "OUT": DATA_OUT},
        exits=DATA,
        environment=("AWS_*",),
    ),
    "data recaption": Page(
        (("dayrun data recaption my-shards captioned --model ./captioner --tokens 64", "Captions of 64 tokens at most."),),
        arguments={"DATA": DATA_IN, "OUT": DATA_OUT},
        exits=DATA,
        environment=("AWS_*",),
    ),
    "data inspect": Page(
        (("dayrun data inspect s3://data/my-shards", "Without reading a sample."),),
        arguments={"URL": DATA_IN},
        exits=DATA,
        environment=("AWS_*",),
    ),
    "data verify": Page(
        (("dayrun data verify my-shards", "Every byte against its hash."),), arguments={"URL": DATA_IN}, exits=DATA, environment=("AWS_*",)
    ),
    "data stats": Page(
        (
            ("dayrun data stats my-shards --sheet sheet.png", "A thousand samples, and some of them as a picture."),
            ("dayrun data stats my-shards --all", "Every sample: duplicates are found for certain."),
        ),
        arguments={"URL": DATA_IN},
        exits=DATA,
        environment=("AWS_*",),
    ),
    "data trained-on": Page(
        (("dayrun data trained-on tars/0017 --run ~/.dayrun/runs/run_01k8", "Whether a run saw a sample, when, and how often."),),
        arguments={"ID": "The sample, as its data set calls it."},
        exits={**DATA, 1: "It was not trained on, or is not known."},
        environment=("DAYRUN_HOME", "AWS_*"),
    ),
    "events": Page(
        (
            ("dayrun events", "The log of the newest run, oldest first."),
            ("dayrun events 7e9a --verify", "Prove it; print the head to note."),
            ("dayrun events --verify --all", "Prove the logs of all runs."),
        ),
        exits={0: "Done; with --verify: every log is whole.", 1: "A log is broken, or the service refused."},
    ),
    "audit": Page((("dayrun audit --project team-a --type key_created --limit 10", "The newest keys of a project."),)),
    "webhooks": Page((("dayrun webhooks create https://hooks.example.com/dayrun", "Tell an address of everything."),)),
    "webhooks list": Page((("dayrun webhooks list", "Addresses, events, and whether they are on."),)),
    "webhooks create": Page(
        (
            (
                "dayrun webhooks create https://hooks.example.com/dayrun --event state_changed --label team=vision",
                "Of some events of some runs.",
            ),
        ),
        arguments={"ADDRESS": "https address that takes signed requests (Standard Webhooks)."},
    ),
    "webhooks delete": Page((("dayrun webhooks delete wh_01k8", "What was due is dropped."),)),
    "webhooks enable": Page((("dayrun webhooks enable wh_01k8", "After its receiver was mended."),)),
    "webhooks test": Page((("dayrun webhooks test wh_01k8", "See `dayrun webhooks deliveries` for what came of it."),)),
    "webhooks deliveries": Page((("dayrun webhooks deliveries wh_01k8 --state failed", "What did not arrive, and what was answered."),)),
    "webhooks replay": Page(
        (("dayrun webhooks replay wh_01k8 msg_01k8", "Once more, with the same webhook-id."),),
        arguments={"DELIVERY": "Id of a message, as `dayrun webhooks deliveries` shows it."},
    ),
    "reprioritise": Page(
        (("dayrun reprioritise 7e9a 10", "Before all with less."), ("dayrun reprioritise 7e9a -5", "Let others pass.")),
        arguments={"PRIORITY": "From -100 to 100. Above 0 takes an admin."},
    ),
    "cost": Page((("dayrun cost", "Of the newest run, in dollars and accelerator-hours."),)),
    "usage": Page(
        (("dayrun usage team-a --runs 5", "With its five dearest runs of the month."),),
        arguments={"[PROJECT]": "Id of a project. Default: default."},
    ),
    "preflight": Page(
        (
            ("dayrun preflight prx-24h", "Seconds to three minutes; no GPU is taken."),
            ("dayrun preflight prx-24h --nodes", "With pods on the run's own nodes."),
        ),
        exits={0: "Nothing stands against the run.", 1: "Something does, or the service refused."},
    ),
    "fork": Page(
        (
            ("dayrun fork 7e9a --set /optimizer/learning_rate=0.0005", "Go on from the newest checkpoint at another learning rate."),
            ("dayrun fork 7e9a@1000 --weights ema --overrides finetune.json --detach", "A fresh run from averaged weights of step 1000."),
        ),
        arguments={"RUN[@STEP]": "Run, and the step of one of its checkpoints. Default: the newest."},
        exits=FOLLOWED,
    ),
    "draw": Page(
        (
            ("dayrun draw 7e9a 'a red apple' 'a pear' --seed 7 --out fruit.png", "Two pictures, side by side."),
            ("dayrun draw 7e9a 'a red apple' --step 1000 --no-ema --steps 50", "From an older checkpoint, without averages."),
        ),
        arguments={"PROMPT…": "What to draw; each is one picture."},
        exits={1: "It could not be drawn, or the service refused."},
    ),
    "export": Page(
        (
            ("dayrun export 7e9a --out my-model", "A folder that diffusers loads."),
            ("dayrun export 7e9a --step 1000 --no-download", "Leave it in the store; print the addresses."),
        ),
        exits={1: "It could not be exported or written, or the service refused."},
    ),
    "cancel": Page(
        (
            ("dayrun cancel 7e9a", "One run, for good."),
            ("dayrun cancel --all --label sweep=mine", "Every run of a sweep."),
        )
    ),
}
