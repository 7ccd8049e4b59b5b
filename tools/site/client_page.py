"""The page of the Python client, from the source of dayrun/client.py and dayrun/answers.py: read and never imported."""

import ast
import re
import textwrap

ANSWERS = """## Answers

Fields that an answer does not have are `None`. A service that is newer than the client may add fields: they are left out.
"""
HEAD = """# Python client

`pip install` of the wheel `dayrun` brings it, without torch and without a web framework. One method an operation of [the API](api/runs.md);
answers are pydantic models, and what the service refuses is a `ServiceError` with its problem details.

```python
from dayrun.client import Client

client = Client()  # DAYRUN_URL, or the service of this machine; DAYRUN_KEY, or key=…
run = client.create_run("demo", overrides={"seed": 7})
for run in client.follow(run.id):
    print(run.state, run.progress.step, run.progress.loss)
```

"""


def page(client: str, answers: str) -> str:
    """Markdown from the two files' source."""
    tree, lines = ast.parse(client), client.splitlines()
    parts = [HEAD]
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            parts.append(class_part(node, lines))
    parts.append(ANSWERS)
    for node in ast.parse(answers).body:
        if isinstance(node, ast.ClassDef) and (found := fields_of(node)):
            bases = [ast.unparse(base) for base in node.bases if ast.unparse(base) not in ("BaseModel", "Answer")]
            after = f"\n\nAll of {', '.join(f'`{base}`' for base in bases)}, and:" if bases else ""
            about = (ast.get_docstring(node) or "") + after
            parts.append(f"### {node.name}\n\n{about.strip()}\n\n| field | type | |\n| --- | --- | --- |\n{found}\n")
    return "\n".join(parts)


def class_part(node: ast.ClassDef, lines: list[str]) -> str:
    parts = [f"## {node.name}\n\n{ast.get_docstring(node) or ''}\n"]
    for one in node.body:
        if not isinstance(one, ast.FunctionDef) or (one.name.startswith("_") and one.name != "__init__"):
            continue
        if (group := group_before(lines, one.lineno)) is not None:
            parts.append(f"### {group[0].upper()}{group[1:]}\n")
        heading = "" if one.name == "__init__" else f"#### {one.name}\n\n"
        parts.append(f"{heading}```python\n{signature(one, node.name)}\n```\n")
        if said := ast.get_docstring(one):
            parts.append(f"{said}\n")
    return "\n".join(parts)


def group_before(lines: list[str], number: int) -> str | None:
    """The comment that stands alone above a method, in whose group it is the first."""
    match = re.fullmatch(r"    # (.+)", lines[number - 2])
    return match[1] if match else None


def signature(one: ast.FunctionDef, name: str) -> str:
    """As it is called: without self, and on several lines where one is too long."""
    arguments = one.args
    arguments.args = [argument for argument in arguments.args if argument.arg != "self"]
    called = name if one.name == "__init__" else one.name
    returned = f" -> {ast.unparse(one.returns)}" if one.returns and one.name != "__init__" else ""
    whole = f"{called}({ast.unparse(arguments)}){returned}"
    if len(whole) <= 100:
        return whole
    inner = re.sub(r", (?=\*|[a-z_]+: )", ",\n", ast.unparse(arguments))
    return f"{called}(\n{textwrap.indent(inner, '    ')},\n){returned}"


def fields_of(node: ast.ClassDef) -> str:
    rows: list[str] = []
    for one, following in zip(node.body, [*node.body[1:], None], strict=True):
        if not isinstance(one, ast.AnnAssign) or not isinstance(one.target, ast.Name):
            continue
        about = ""
        if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant) and isinstance(following.value.value, str):
            about = " ".join(following.value.value.split())
        kind = ast.unparse(one.annotation).replace("|", "\\|")
        rows.append(f"| `{one.target.id}` | `{kind}` | {about.replace('|', chr(92) + '|')} |")
    return "\n".join(rows)
