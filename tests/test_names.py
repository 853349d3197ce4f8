"""Names of the library: one public class, one meaning."""

import ast
from collections import defaultdict
from pathlib import Path

import interp

ROOT = Path(interp.__file__).parent


def test_no_two_modules_define_a_public_class_or_type_of_the_same_name():
    homes = defaultdict(list)
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            named = []
            if isinstance(node, ast.ClassDef):
                named = [node.name]
            elif isinstance(node, ast.Assign):
                named = [target.id for target in node.targets if isinstance(target, ast.Name)]
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                named = [node.target.id]
            for name in named:
                if name[0].isupper() and not name.isupper():  # classes and type aliases
                    homes[name].append(path.relative_to(ROOT).as_posix())
    assert {name: files for name, files in homes.items() if len(files) > 1} == {}


def test_the_library_cites_no_document_outside_the_repository():
    for path in ROOT.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        for name in ("SCIENCE", "DESIGN.md", "STATISTICS.md", "CRAFT.md"):
            assert name not in text, f"{path} cites {name}"
