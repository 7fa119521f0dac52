"""What keeps the notebooks readable and importable: order of imports, small export cells, an assertion in each, and habitat kept out."""

import ast
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted(p for p in (ROOT/'nbs').rglob('*.ipynb') if '.ipynb_checkpoints' not in p.parts)
LONGEST = 45


def code_cells(path: Path) -> list[str]:
    "The code cells of a notebook."
    return [''.join(c['source']) for c in json.loads(path.read_text())['cells'] if c['cell_type'] == 'code']


def is_export(source: str) -> bool: return bool(re.search(r'^#\|\s*export\b', source, re.M))


def module_of(path: Path) -> str | None:
    "The module that a notebook exports to, without the package's name."
    names = [m[1] for c in code_cells(path) if (m := re.search(r'^#\|\s*default_exp\s+([\w.]+)', c, re.M))]
    return names[0] if names else None


NUMBER = {module: int(path.name[:2]) for path in NOTEBOOKS if (module := module_of(path))}
EXPORTING = [p for p in NOTEBOOKS if any(map(is_export, code_cells(p)))]


def imported(source: str) -> set[str]:
    "The modules of nl_irl that Python source imports, without the package's name; IPython's own lines are left out."
    tree = ast.parse(re.sub(r'^\s*[%!].*$', '', source, flags=re.M))
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import): names |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module: names |= {node.module} | {f'{node.module}.{a.name}' for a in node.names}
    return {n.removeprefix('nl_irl.') for n in names if n.startswith('nl_irl.')} & NUMBER.keys()


def test_the_rules_see_something():
    assert len(EXPORTING) > 20 and NUMBER['types'] == 0 and NUMBER['runs'] == 60
    assert imported('from nl_irl.types import require\nfrom nl_irl import files\nimport nl_irl.worlds.tables') == {'types', 'files', 'worlds.tables'}


@pytest.mark.parametrize('path', EXPORTING, ids=lambda p: p.stem)
def test_imports_only_lower_numbers(path):
    for source in code_cells(path):
        for module in imported(source): assert NUMBER[module] <= int(path.name[:2]), f'{path.name} imports {module}, of notebook {NUMBER[module]}'


@pytest.mark.parametrize('path', EXPORTING, ids=lambda p: p.stem)
def test_asserts_and_stays_small(path):
    cells = code_cells(path)
    assert any(re.search(r'\bassert\b', c) for c in cells if not is_export(c)), f'{path.name} exports and asserts nothing'
    for c in filter(is_export, cells):
        assert c.count('\n') + 1 <= LONGEST, f'{path.name}: an export cell of {c.count(chr(10)) + 1} lines, at most {LONGEST}: {c.splitlines()[1]}'


def test_numbers_are_unique():
    names = [p.name for p in (ROOT/'nbs').glob('[0-9]*.ipynb')]
    assert len({n[:2] for n in names}) == len(names), f'two notebooks share a number: {sorted(names)}'


def test_nothing_needs_habitat():
    users = [p.name for p in (ROOT/'nl_irl').rglob('*.py') if re.search(r'^(import|from) habitat', p.read_text(), re.M)]
    assert not users, f'{users} import habitat at the top: only when it is used'


def test_no_star_imports():
    users = [p.name for p in NOTEBOOKS if any(re.search(r'^\s*from nl_irl\S* import \*', c, re.M) for c in code_cells(p))]
    assert not users, f'{users} hide where names come from'


def test_a_public_name_means_one_thing():
    homes = {}
    for module in (ROOT/'nl_irl').rglob('*.py'):
        for node in ast.parse(module.read_text()).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith('_'): homes.setdefault(node.name, []).append(module.stem)
    shared = {name: modules for name, modules in homes.items() if len(modules) > 1}
    assert len(homes) > 500 and not shared, f'two modules define {shared}'
