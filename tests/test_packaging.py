"""Packaging: facts that stand in two places agree, and a wheel runs an experiment in an empty folder."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from configparser import ConfigParser
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

import nl_irl

ROOT = Path(__file__).parents[1]
SHIPPED = ('settings.ini', 'constraints.txt', 'setup.py', 'pyproject.toml', 'MANIFEST.in', 'LICENSE', 'README.md', 'CHANGELOG.md', 'nl_irl', 'nbs')


def settings():
    "The facts of settings.ini."
    ini = ConfigParser(delimiters=['='], interpolation=None)
    ini.read(ROOT/'settings.ini', encoding='utf-8')
    return ini['DEFAULT']


NAMES = {'PIL': 'pillow', 'yaml': 'pyyaml'}             # what is imported under another name than it is installed


def normal(name: str) -> str: return re.sub(r'[-_.]+', '-', name).lower()


def test_version_is_the_same():
    assert settings()['version'] == nl_irl.__version__
    assert f'## {nl_irl.__version__}' in (ROOT/'CHANGELOG.md').read_text()


def test_every_requirement_is_pinned():
    pins = {normal(line.split('==')[0]) for line in (ROOT/'constraints.txt').read_text().splitlines() if '==' in line}
    wanted = [name for key, value in settings().items() if key in ('requirements', 'dev_requirements') for name in value.split()]
    missing = [name for name in wanted if normal(re.match(r'[\w.-]+', name)[0]) not in pins]
    assert not missing, f'{missing} are in settings.ini and not in constraints.txt'
    assert '+' not in (ROOT/'constraints.txt').read_text(), 'a pin names a local build, which no index offers'


def test_every_pin_installs_on_the_oldest_python():
    "Debian 12, for one, has Python 3.11.2."
    oldest = settings()['min_python'] + '.0'
    pins = {normal(line.split('==')[0]) for line in (ROOT/'constraints.txt').read_text().splitlines() if '==' in line}
    ours = {normal(d.metadata['Name']): d.metadata['Requires-Python'] or '' for d in distributions() if normal(d.metadata['Name']) in pins}
    refused = {name: needs for name, needs in ours.items() if oldest not in SpecifierSet(needs)}
    assert len(ours) > 50 and not refused, f'{refused} do not install on Python {oldest}: pin older ones'


def test_every_requirement_is_explained():
    "In the table of CONTRIBUTING.md; and it explains no other."
    rows = re.findall(r'^\| ([\w-]+)(?: \(([\w, ]+)\))? \| .* \| [\d.]+ \| [\d.]+ \|$', (ROOT/'CONTRIBUTING.md').read_text(), re.M)
    extras = {key.removesuffix('_requirements'): value for key, value in settings().items() if key.endswith('_requirements') and key != 'dev_requirements'}
    wanted = {(normal(re.match(r'[\w.-]+', r)[0]), extra) for extra, value in [('', settings()['requirements']), *extras.items()] for r in value.split()}
    assert {(name, extra) for name, of in rows for extra in of.split(', ')} == wanted


def test_every_import_is_required():
    "What modules import at their top is the standard library, the package, or a requirement of it."
    required = {normal(re.match(r'[\w.-]+', r)[0]) for r in settings()['requirements'].split()} | {'click'}
    for path in (ROOT/'nl_irl').rglob('*.py'):
        for name in re.findall(r'^(?:import|from) (\w+)', path.read_text(), re.M):
            known = name in sys.stdlib_module_names or name == 'nl_irl' or normal(NAMES.get(name, name)) in required
            assert known, f'{path.name} imports {name}: add it to settings.ini'


@pytest.fixture(scope='module')
def built(tmp_path_factory):
    "A wheel built from an sdist of the shipped files, and the folder that it is installed into."
    source, dist, target = (tmp_path_factory.mktemp(name) for name in ('source', 'dist', 'target'))
    for name in SHIPPED:
        copy = shutil.copytree if (ROOT/name).is_dir() else shutil.copy
        copy(ROOT/name, source/name)
    subprocess.run([sys.executable, '-m', 'build', '--no-isolation', '--outdir', dist, source], check=True, capture_output=True)
    wheel, = dist.glob('*.whl')
    subprocess.run([sys.executable, '-m', 'pip', 'install', '-q', '--no-deps', '--target', target, wheel], check=True, capture_output=True)
    return wheel, target


def test_wheel_holds_modules_experiments_and_the_console_script(built):
    names = zipfile.ZipFile(built[0]).namelist()
    for path in [*(ROOT/'nl_irl').rglob('*.py'), *(ROOT/'nl_irl'/'panels').glob('stage.*')]: assert str(path.relative_to(ROOT)) in names
    for path in (ROOT/'nbs'/'experiments').glob('*.ipynb'): assert f'nl_irl/experiments/{path.name}' in names
    entry, = (n for n in names if n.endswith('entry_points.txt'))
    assert b'nl-irl = nl_irl.cli:main' in zipfile.ZipFile(built[0]).read(entry)


def test_wheel_runs_an_experiment_in_an_empty_folder(built, tmp_path):
    "With the installed copy alone: nothing of the checkout is on the path."
    environment = os.environ | {'PYTHONPATH': str(built[1]), 'PYTHONSAFEPATH': '1'}
    where = subprocess.run([sys.executable, '-c', 'import nl_irl; print(nl_irl.__file__)'], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert str(built[1]) in where.stdout
    done = subprocess.run([sys.executable, built[1]/'bin'/'nl-irl', 'run', 'imitation', '--out', 'here'], cwd=tmp_path, env=environment,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {'config.json', 'manifest.json', 'results.parquet', 'notebook.ipynb', 'report.html'} <= {p.name for p in (tmp_path/'here').iterdir()}
    assert '"git": null' in (tmp_path/'here'/'config.json').read_text()             # a wheel has no commit
    assert [p.name for p in tmp_path.iterdir()] == ['here']
