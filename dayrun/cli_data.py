"""`dayrun data`: what a person types about training data. The trainer does it, in a process of its own: this package knows no shards."""

import click

from dayrun.cli import become, main

COMMANDS = {
    "convert": ("trainer.data.convert", "Convert tars, folders or tables of pictures to shards."),
    "text-latents": ("trainer.data.convert", "Add the states of captions by a recipe's text tower."),
    "image-latents": ("trainer.data.convert", "Add the latents of pictures by an autoencoder."),
    "recaption": ("trainer.data.convert", "Add captions that a vision-language model writes."),
    "inspect": ("trainer.data", "What a data set is: samples, buckets, columns, bytes. Reads its indexes only."),
    "verify": ("trainer.data", "Read every byte of a data set and compare: sizes, hashes, samples."),
    "stats": ("trainer.data", "Look into samples of a data set: captions, pictures, duplicates; a contact sheet."),
    "trained-on": ("trainer.data", "Whether, when and how often a run was trained on a sample."),
}
"""Name → the module that carries it out, and what it is for."""


@main.group()
def data() -> None:
    """Training data: make them, look into them, prove them, ask who was trained on what."""


def command(name: str, module: str, about: str) -> None:
    @data.command(name, help=about, add_help_option=False, context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
    @click.pass_context
    def passed_on(ctx: click.Context) -> None:  # pyright: ignore[reportUnusedFunction]
        become(ctx, module, [name], "this is the client alone; the trainer, which reads data, comes with a clone of the repository")


for name, (module, about) in COMMANDS.items():
    command(name, module, about)
