"""Pictures as the run folder has them. Reads files; call it in a thread."""

from datetime import UTC, datetime
from urllib.parse import quote

from service.folders import folder_at
from service.http.problem import Problem
from service.samples.schemas import Sample


def samples(
    url: str,
    run_id: str,
    steps: list[int] | None = None,
    sets: list[str] | None = None,
    after: tuple[int, str] | None = None,
    limit: int = 100_000,
) -> list[Sample]:
    """Pictures in order of step and file, those after `after` (step, file); one more than `limit` where there are more."""
    folder, found = folder_at(url), list[Sample]()
    for step in folder.sample_steps():
        if (steps and step not in steps) or (after and step < after[0]):
            continue
        try:
            index = folder.sample_index(step)
        except (FileNotFoundError, ValueError):  # the trainer has only begun to draw
            continue
        for image in sorted(index["images"], key=lambda image: image["file"]):
            if (sets and image["set"] not in sets) or (after and (step, image["file"]) <= after):
                continue
            found.append(
                Sample(
                    step=step,
                    time=datetime.fromtimestamp(index["time"], UTC),
                    checkpoint=index["checkpoint"],
                    url=f"/runs/{run_id}/samples/{step}/{quote(image['file'])}",
                    **{name: value for name, value in image.items() if name != "file"},  # pyright: ignore[reportArgumentType]
                )
            )
            if len(found) > limit:
                return found
    return found


def picture(url: str, step: int, file: str) -> bytes:
    """One picture that an index names. Raises Problem 404."""
    folder = folder_at(url)
    try:
        if any(image["file"] == file for image in folder.sample_index(step)["images"]):
            return folder.sample_picture(step, file)
    except (FileNotFoundError, ValueError):
        pass
    raise Problem(404, f"no picture {file[:60]!r} was drawn at step {step}; GET …/samples lists them", kind="no-such-sample")


def steps_with_pictures(url: str) -> list[int]:
    return folder_at(url).sample_steps()
