"""`python -m service.settings_page --write`: docs/settings.md, from the one class that knows every setting."""

import sys
from pathlib import Path

from service.settings import Settings

PAGE = Path(__file__).resolve().parents[1] / "docs" / "settings.md"
HEAD = "# Settings\n\nEvery one of the service, as environment variables. `make schema` writes this page.\n\n"


def page() -> str:
    lines = ["| name | default | |", "| --- | --- | --- |"]
    for name, field in Settings.model_fields.items():
        default = field.get_default()
        shown = "" if default is None else str(default).replace(str(Path.home()), "~")
        lines.append(f"| `DAYRUN_{name.upper()}` | {f'`{shown}`' if shown else ''} | {field.description} |")
    return HEAD + "\n".join(lines) + "\n"


def main() -> int:
    if sys.argv[1:] == ["--write"]:
        PAGE.write_text(page())
    elif PAGE.read_text() != page():
        print("docs/settings.md is not what the code has: run `make schema`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
