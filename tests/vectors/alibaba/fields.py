#!/usr/bin/env python3
"""Writes fields.json: which fields the SDK's model of each served action has in its response.

    pip download --no-deps alibabacloud_kms20160120==3.3.1
    unzip -q alibabacloud_kms20160120-3.3.1-py3-none-any.whl -d sdk
    python3 tests/vectors/alibaba/fields.py sdk/alibabacloud_kms20160120 > tests/vectors/alibaba/fields.json

A path names a field: `Keys.Key[].KeyId` is KeyId in each item of the list Key in the object Keys. Only names are taken,
by reading the syntax tree of the models; the SDK does not have to be installed.
"""

import ast
import json
import pathlib
import re
import sys

SERVED = pathlib.Path(__file__).parents[3] / "src/server/alibaba/actions.rs"


def served_actions() -> list[str]:
    text = SERVED.read_text().split("pub const UNSERVED")[0]
    return re.findall(r'^    "(\w+)",$', text, re.MULTILINE)


def snake(action: str) -> str:
    return re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", action).lower()


def wire_names(function: ast.FunctionDef) -> dict[str, str]:
    """Attribute by wire name: `if m.get('KeyId') is not None: self.key_id = …` and the like, as `to_map` writes it."""
    names = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript):
            target = node.targets[0]
            if isinstance(target.value, ast.Name) and target.value.id == "result":
                used = [n.attr for n in ast.walk(node.value) if isinstance(n, ast.Attribute) and n.attr != "to_map"]
                names[target.slice.value] = used[0] if used else target.slice.value
    return names


def annotations(init: ast.FunctionDef) -> dict[str, str]:
    return {a.arg: ast.unparse(a.annotation) for a in init.args.args if a.annotation is not None}


def paths(classes: dict[str, ast.ClassDef], name: str, before: str = "") -> list[str]:
    functions = {f.name: f for f in classes[name].body if isinstance(f, ast.FunctionDef)}
    types = annotations(functions["__init__"])
    found = []
    for wire, attribute in wire_names(functions["to_map"]).items():
        # A list is written as `result['Key'] = []` first: its attribute is the name in snake case.
        kind = types.get(attribute) or types.get(snake(wire), "str")
        inner = re.search(r"main_models\.(\w+)", kind)
        if inner is None:
            found.append(before + wire)
        else:
            found += paths(classes, inner.group(1), before + wire + ("[]." if kind.startswith("List[") else "."))
    return found


def main() -> None:
    models = pathlib.Path(sys.argv[1]) / "models"
    result = {}
    for action in served_actions():
        tree = ast.parse((models / f"_{snake(action)}_response_body.py").read_text())
        classes = {c.name: c for c in tree.body if isinstance(c, ast.ClassDef)}
        result[action] = sorted(paths(classes, f"{action}ResponseBody"))
    json.dump(result, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
