"""Runs that are killed at random moments and gone on with end with the bytes of runs that never were: `make drill` writes figures/drill.csv and drill.md.

Half of the kills wait for a random moment, half for a file that is being written (a checkpoint, a snapshot, a table). SIGKILL goes to the whole process group.
The first run of each kind is left alone; all others are compared with it, file by file, but for times and what tensorboard and papermill date.
"""
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))
from test_resume import content, remains

TOOL, FIGURES, KILLS = Path(sys.executable).with_name('nl-irl'), Path('figures'), 3
PLAN = 'experiment: imitation\nout: {out}\nparameters: {{preset: tiny, updates: 60}}\ngrid: {{seed: [0, 1]}}\n'
RUNS = {'imitation': 50, 'method': 25, 'sweep': 25}


def command(kind: str, folder: Path) -> list[str]:
    "What starts a run in `folder`, or goes on with it."
    if kind == 'sweep':
        plan = folder.with_suffix('.yaml')
        if not plan.exists(): plan.write_text(PLAN.format(out=folder))
        return ['sweep', str(plan), '--workers', '2']
    if (folder/'request.json').exists(): return ['resume', str(folder)]
    return ['run', kind, '--out', str(folder), '-p', 'preset', 'tiny', *(['-p', 'updates', '120'] if kind == 'imitation' else [])]


def writes(folder: Path) -> bool:
    "Whether a file of `folder` is being written just now."
    with suppress(FileNotFoundError): return next(folder.rglob('.*.tmp'), None) is not None
    return False


def killed(process: subprocess.Popen, folder: Path, seconds: float, in_writing: bool, *, rng: np.random.Generator) -> str:
    "Kill `process` at a moment by chance within `seconds`, or at the first file that it writes after that: when it was killed, '' where it had ended before."
    begun, moment = time.monotonic(), rng.uniform(0, seconds)
    while process.poll() is None:
        late = time.monotonic() - begun > moment
        if late and (not in_writing or writes(folder)):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return f'{time.monotonic() - begun:.1f} s' + ' in writing' * in_writing
        time.sleep(0 if late else 0.05)
    return ''


def wait_for_end(folder: Path) -> None:
    "Wait for all processes of the run in `folder`: those of a sweep save before they end. A RuntimeError if some are left after two minutes."
    end = time.monotonic() + 120
    while left := remains(folder):
        if time.monotonic() > end: raise RuntimeError(f'{folder}: processes {left} outlive what started them')
        time.sleep(0.1)


def run(kind: str, folder: Path, seconds: float, number: int) -> tuple[list[str], dict[str, bytes]]:
    """When a run in `folder` was killed, up to `KILLS` times, and what it left once it had ended; a RuntimeError if it fails.

    One that ends before its first kill is begun anew. seconds: that an undisturbed run takes, within which kills fall; 0: none.
    """
    rng, moments = np.random.default_rng(number), []
    folder.parent.mkdir(parents=True)
    for turn in itertools.count():
        environment = os.environ | {'OMP_NUM_THREADS': '1'}
        process = subprocess.Popen([TOOL, *command(kind, folder)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True, env=environment)
        if len(moments) < KILLS and seconds and (moment := killed(process, folder, seconds, bool((number + turn) % 2), rng=rng)):
            process.stderr.close()
            wait_for_end(folder)
            moments.append(moment)
            continue
        said = process.communicate()[1].decode()
        if process.returncode: raise RuntimeError(f'{kind} {number} failed after kills at {moments}: {said[-2000:]}')
        if seconds and not moments:
            shutil.rmtree(folder)
            continue
        runs = [p.parent for p in sorted(folder.rglob('config.json'))]
        return moments, {f'{run.relative_to(folder)}/{name}': file for run in runs for name, file in content(run).items()}


def main() -> None:
    from tqdm import tqdm
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        aims = {}
        for kind in RUNS:
            begun = time.monotonic()
            aims[kind] = run(kind, Path(scratch)/kind/'aim', 0, 0)[1], time.monotonic() - begun
        def drill(kind: str, number: int) -> dict:
            folder, (aim, seconds) = Path(scratch)/kind/str(number)/'aim', aims[kind]
            moments, left = run(kind, folder, seconds, number)
            wrong = sorted(name for name in aim | left if aim.get(name) != left.get(name))
            shutil.rmtree(folder.parent)
            return dict(kind=kind, number=number, kills=len(moments), when='; '.join(moments), equal=not wrong, different=' '.join(wrong))
        jobs = [(kind, number) for kind, count in RUNS.items() for number in range(1, count + 1)]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for row in tqdm(pool.map(lambda job: drill(*job), jobs), total=len(jobs)):
                rows.append(row)
                if not row['equal']: print(row, flush=True)
    frame = pd.DataFrame(rows)
    frame.to_csv(FIGURES/'drill.csv', index=False)
    table = frame.groupby('kind', sort=False).agg(runs=('kind', 'size'), killed=('kills', 'sum'), equal=('equal', 'sum'))
    lines = [f'| {kind} | {r.runs} | {r.killed} | {frame[frame.kind == kind].when.str.count("in writing").sum()} | {r.equal} |' for kind, r in table.iterrows()]
    head = ['# Killed and gone on with', '', f'`make drill`, {time.strftime("%Y-%m-%d")}.', '', 'Runs were '
            f'killed by SIGKILL, each one to {KILLS} times, at random moments and while a file was being written, gone on with, and compared '
            'byte for byte with one that never was ([all](drill.csv)).', '',
            '| kind | runs | kills | of these while writing | equal to the last byte |', '| --- | --- | --- | --- | --- |']
    (FIGURES/'drill.md').write_text('\n'.join([*head, *lines, '']))
    sys.exit(int(not frame.equal.all()))


if __name__ == '__main__':
    print('A hundred runs, an hour or more: figures/drill.csv and drill.md are written at the end', flush=True)
    try: main()
    except KeyboardInterrupt: sys.exit('stopped: figures/ is as it was')
