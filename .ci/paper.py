"""The paper's tables and figures, from the records in figures/data: run every notebook of nbs/experiments/paper, or those named.

With --check nothing is written, and what is stale is said.
"""
import sys
import tempfile
from pathlib import Path

import papermill

NOTEBOOKS, FIGURES = Path('nbs/experiments/paper'), Path('figures')


def build(notebooks: list[Path], out: Path) -> None:
    "Run `notebooks`, which write into `out`."
    with tempfile.TemporaryDirectory() as executed:
        for notebook in notebooks:
            papermill.execute_notebook(notebook, Path(executed)/notebook.name, {'out': str(out)}, kernel_name='python3', language='python', progress_bar=False)
            print(f'{notebook.stem}', flush=True)


def main(arguments: list[str]) -> int:
    "Exit status 1 if --check finds a table or a page (not pictures: their bytes differ between machines) that the records do not give."
    names = [name for name in arguments if name != '--check']
    notebooks = [NOTEBOOKS/f'{name}.ipynb' for name in names] or sorted(NOTEBOOKS.glob('*.ipynb'))
    if '--check' not in arguments:
        build(notebooks, FIGURES.resolve())
        return 0
    with tempfile.TemporaryDirectory() as folder:
        build(notebooks, Path(folder))
        made = sorted(Path(folder).iterdir())
        stale = [p.name for p in made if not (FIGURES/p.name).is_file() or p.suffix not in ('.png', '.pdf') and p.read_bytes() != (FIGURES/p.name).read_bytes()]
    if stale: print(f'not what the records give: {", ".join(stale)}; run make paper and commit', file=sys.stderr)
    return bool(stale)


if __name__ == '__main__': sys.exit(main(sys.argv[1:]))
