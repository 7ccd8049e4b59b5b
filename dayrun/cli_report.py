"""What a person types for a document to attach to a decision: `dayrun report`. It adds itself to `main`."""

from pathlib import Path

import click

from dayrun.cli import RUN, URL, WRONG, chosen, connected, fail, main


@main.command()
@RUN
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="HTML file to write. Default: <run>.html here.")
@click.option("--pdf", is_flag=True, help="Also print it: <out> with the ending .pdf. Needs Chromium (CHROMIUM, or in PATH).")
@URL
def report(run_id: str | None, out: Path | None, pdf: bool, url: str | None) -> None:
    """Write a run as one HTML file: recipe, curves, pictures, plan against actual, cost, faults, environment, proof of the log.

    The file has everything in it: no script, no outside address. A run that is not over is reported as it stands.
    """
    from dayrun.report.gather import gather
    from dayrun.report.page import page
    from dayrun.report.pdf import NotPrinted, browser, print_page

    if out is not None and out.suffix == ".pdf":
        raise fail(f"--out {out}: it names the HTML; `--out {out.with_suffix('.html')} --pdf` prints {out} beside it", code=WRONG)
    try:
        if pdf:
            browser()  # before the work
        with connected(url) as client:
            facts = gather(client, chosen(client, run_id))
        target = out or Path(f"{facts.run.id}.html")
        try:
            target.write_text(page(facts), encoding="utf-8")
        except OSError as error:
            raise fail(f"--out {target}: {error.strerror}") from None
        click.echo(f"{target}: {target.stat().st_size / 1e3:.0f} kB")
        if pdf:
            printed = target.with_suffix(".pdf")
            print_page(target, printed)
            click.echo(f"{printed}: {printed.stat().st_size / 1e3:.0f} kB")
    except NotPrinted as error:
        raise fail(f"--pdf: {error}") from None
