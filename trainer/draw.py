"""Pictures of given prompts from a checkpoint, by one process, on a GPU or a CPU.

    python -m trainer.draw RUN_FOLDER --request-key draws/<id>/request.json
    python -m trainer.draw RUN_FOLDER --request REQUEST.json [--id ID]

Pictures appear under draws/<id>/ as they come, with an index like those of a run's own samples. Exit codes: 0 drawn; 70 failed, for the
cause that draws/<id>/error.json names; 2 wrong usage.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from dayrun.draws import DrawRequest, draw_conflicts
from dayrun.objects import Prefix
from dayrun.recipe_errors import RecipeError, RecipeErrors, pointer
from dayrun.run_folder import RunFolder, SampleIndex
from trainer.autoencoder import Autoencoder, autoencoder_of
from trainer.samples import CHUNK, Prompts, about, draw_pictures, encode, png, stage_at
from trainer.trained import Trained, alone, load_trained, recipe_of, told_when_it_fails

SET = "draw"
"""The set that drawn pictures name in their index."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="trainer.draw", description="Draw given prompts from a checkpoint of a run.")
    parser.add_argument("folder", help="the run's folder, a path or a URL")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--request", type=Path, help="the request as a JSON file")
    source.add_argument("--request-key", help="the request's key in the run folder: draws/<id>/request.json")
    parser.add_argument("--id", help="name of the folder under draws/; default: of the request")
    options = parser.parse_args()
    folder = RunFolder(Prefix(options.folder))
    if options.request_key:
        id = options.id or options.request_key.split("/")[-2]
        return told_when_it_fails(folder, "draws", id, lambda: draw(folder, id, json.loads(folder.prefix.get(options.request_key))))
    id = options.id or options.request.stem
    return told_when_it_fails(folder, "draws", id, lambda: draw(folder, id, json.loads(options.request.read_bytes())))


def draw(folder: RunFolder, id: str, document: Any) -> None:
    """Draw what `document` asks for into draws/<id>/. Raises RecipeErrors for a request that cannot be met."""
    request, recipe = parse(document), recipe_of(folder)
    if conflicts := draw_conflicts(recipe, request):
        raise RecipeErrors(conflicts)
    with alone(recipe.hardware) as world:
        trained = load_trained(folder, world, recipe, request.step, request.ema)
        prompts = encode(recipe, request.prompts, world)
        draw_chunks(folder, id, request, trained, prompts, autoencoder_of(recipe, world))


def draw_chunks(
    folder: RunFolder, id: str, request: DrawRequest, trained: Trained, prompts: Prompts, autoencoder: Autoencoder | None
) -> None:
    """The pictures, and after every few of them the index, which is complete with the last."""
    step = trained.manifest["step"]
    of_stage, stage = stage_at(trained.recipe, step)
    pixels = request.pixels or stage.pixels
    asked = {"guidance": request.guidance, "steps": request.steps, "ema": trained.ema}
    samples = of_stage.samples.model_copy(update={name: value for name, value in asked.items() if value is not None})
    recipe = of_stage.model_copy(update={"samples": samples})
    index = SampleIndex(
        step=step, attempt=trained.manifest["attempt"], time=time.time(), complete=False, checkpoint=trained.digest, images=[]
    )
    wanted = list(zip(request.prompts, request.all_seeds, strict=True))
    for first in range(0, len(wanted), CHUNK):
        chunk = wanted[first : first + CHUNK]
        texts, seeds = [prompt for prompt, _ in chunk], [seed for _, seed in chunk]
        pictures = draw_pictures(trained.model, recipe, prompts, texts, seeds, pixels, autoencoder)
        for number, ((prompt, seed), picture) in enumerate(zip(chunk, pictures, strict=True), start=first):
            entry = about(recipe, SET, number, prompt, seed, pixels)
            folder.put_draw_picture(id, entry["file"], png(picture))
            index["images"].append(entry)
        index["time"] = time.time()
        index["complete"] = len(index["images"]) == len(wanted)
        folder.put_draw_index(id, index)
        print(f"{len(index['images'])} of {len(wanted)} pictures drawn from step {step}", flush=True)


def parse(document: Any) -> DrawRequest:
    try:
        return DrawRequest.model_validate(document)
    except ValidationError as error:
        raise RecipeErrors([RecipeError(pointer(*e["loc"]), None, e["msg"]) for e in error.errors()]) from error


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # a thread of the tower's library must not hold the exit code back
