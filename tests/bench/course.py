"""How long the lessons of nbs/tutorials/course run: `make course` writes figures/course.csv, in some minutes.

Each runs in a kernel of its own, one after the other.
"""
import time
from pathlib import Path

import nbformat
import pandas as pd
from nbclient import NotebookClient

LESSONS, FIGURES = sorted(Path('nbs/tutorials/course').glob('[1-9]_*.ipynb')), Path('figures')


def main() -> None:
    rows = []
    for file in LESSONS:
        notebook, began = nbformat.read(file, as_version=4), time.time()
        NotebookClient(notebook, timeout=600, resources={'metadata': {'path': str(file.parent)}}).execute()
        seconds = time.time() - began
        title, subtitle = notebook.cells[0].source.split('\n')[:3:2]
        exercises = sum('**Exercise' in c.source for c in notebook.cells)
        rows.append({'lesson': title.lstrip('# '), 'about': subtitle.lstrip('> '), 'exercises': exercises, 'seconds': round(seconds)})
        print(file.name, f'{seconds:.0f} s', flush=True)
    pd.DataFrame(rows).to_csv(FIGURES/'course.csv', index=False)


if __name__ == '__main__': main()
