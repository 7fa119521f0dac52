"""The documentation site, built offline: `make docs` writes _docs/html, `.ci/docs.py --check` only checks that it builds and no link within it is broken.

Sources are gathered in _docs/source: README.md, the notebooks under nbs/, pages of figures/, and a page of the API for each module. Without --check
the notebooks to learn from are run.
"""
import json
import shutil
import sys
from pathlib import Path

from sphinx.cmd.build import build_main

GATHERED, SITE, CONF = Path('_docs/source'), Path('_docs/html'), Path('.ci')
PARTS = {'Tutorials': 'tutorials', 'Course': 'tutorials/course', 'How to': 'howto', 'Components': '', 'Experiments': 'experiments',
         'Paper': 'experiments/paper'}


def contents(caption: str, pages: list[str]) -> str:
    "A table of contents that the sidebar shows."
    return '\n'.join(['```{toctree}', f':caption: {caption}', ':hidden:', '', *pages, '```', ''])


def gather() -> None:
    "All sources in one folder, and the order of them."
    shutil.rmtree(GATHERED, ignore_errors=True)
    shutil.copytree('nbs', GATHERED, ignore=shutil.ignore_patterns('index.ipynb', '.ipynb_checkpoints'))
    for file in GATHERED.rglob('*.ipynb'):
        notebook = json.loads(file.read_text())
        notebook['metadata']['language_info'] = {'name': 'python', 'pygments_lexer': 'ipython3'}
        file.write_text(json.dumps(notebook))
    shutil.copytree('figures', GATHERED/'figures', ignore=shutil.ignore_patterns('data', 'plans', '*.pdf', '*.tex'))
    for page in (GATHERED/'figures').glob('*.md'): page.write_text(page.read_text().replace('](../nbs/', '](../'))
    (GATHERED/'api').mkdir()
    modules = sorted('.'.join(p.with_suffix('').parts) for p in Path('nl_irl').rglob('*.py') if not p.name.startswith('_'))
    for name in modules: (GATHERED/'api'/f'{name}.md').write_text(f'# {name}\n\n```{{eval-rst}}\n.. automodule:: {name}\n   :members:\n```\n')
    pages = {name: sorted(str(p.relative_to(GATHERED).with_suffix('')) for p in (GATHERED/folder).glob('*.ipynb')) for name, folder in PARTS.items()}
    pages |= {'Results': sorted(f'figures/{p.stem}' for p in (GATHERED/'figures').glob('*.md')), 'API': [f'api/{name}' for name in modules]}
    (GATHERED/'index.md').write_text(Path('README.md').read_text() + '\n' + '\n'.join(contents(*item) for item in pages.items()))


def main() -> int:
    gather()
    run = [] if '--check' in sys.argv[1:] else ['-D', 'nb_execution_mode=cache']
    return build_main(['-q', '-W', '--keep-going', '-c', str(CONF), *run, str(GATHERED), str(SITE)])


if __name__ == '__main__': sys.exit(main())
