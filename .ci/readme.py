"""README.md from nbs/index.ipynb: run it and render it; with --check only compare README.md and its pictures with the notebook as it stands."""
import re
import subprocess
import sys
from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter

UNSEEN = 'code that README.md leaves out'
NOTEBOOK, README, PICTURES = Path('nbs/index.ipynb'), Path('README.md'), Path('figures')


def render(notebook: nbformat.NotebookNode) -> tuple[str, dict[str, bytes]]:
    "The notebook's text and outputs as Markdown, and its pictures by name; cells marked `#| hide` are left out, and code after `#| echo: false`."
    notebook = nbformat.from_dict(notebook)
    notebook.cells = [c for c in notebook.cells if not re.search(r'^#\|\s*hide\b', c.source, re.M)]
    for cell in notebook.cells:
        if cell.cell_type == 'code':
            if re.search(r'^#\|\s*echo:\s*false', cell.source, re.M): cell.source = UNSEEN
            else: cell.source = re.sub(r'^#\|.*\n?', '', cell.source, flags=re.M)
    text, resources = MarkdownExporter().from_notebook_node(notebook, {'unique_key': 'index', 'output_files_dir': str(PICTURES)})
    text = re.sub(r'<style scoped>.*?</style>\n?', '', text, flags=re.S)
    text = re.sub(rf'```\w*\s*{UNSEEN}\s*```\n*', '', text)
    text = re.sub(r'[ \t]+$', '', text, flags=re.M).replace('](../figures/', '](figures/')
    notice = '<!-- Made from nbs/index.ipynb by `make readme`: edit that. -->\n'
    return notice + re.sub(r'\n{3,}', '\n\n', text).strip() + '\n', resources['outputs']


def main() -> int:
    "Exit status 1 if --check finds README.md or a picture of it to differ from the notebook."
    check = '--check' in sys.argv[1:]
    if not check:
        subprocess.run([sys.executable, '-m', 'nbconvert', '--to', 'notebook', '--execute', '--inplace', NOTEBOOK], check=True)
        subprocess.run([Path(sys.executable).parent/'nbdev-clean', '--fname', NOTEBOOK], check=True)
    text, pictures = render(nbformat.read(NOTEBOOK, as_version=4))
    wanted = {README: text.encode()} | {Path(name): content for name, content in pictures.items()}
    if check:
        stale = [str(p) for p, content in wanted.items() if not p.is_file() or p.read_bytes() != content]
        if stale: print(f'{", ".join(stale)}: not what nbs/index.ipynb gives; run make readme and commit', file=sys.stderr)
        else: print('README.md is what nbs/index.ipynb gives')
        return bool(stale)
    for p, content in wanted.items():
        p.parent.mkdir(exist_ok=True)
        p.write_bytes(content)
        print(f'wrote {p}')
    return 0


if __name__ == '__main__': sys.exit(main())
