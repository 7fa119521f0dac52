"""Ninety minutes of training with two panels open beside it: `make endurance` writes figures/endurance.csv, endurance.md and endurance.png.

A method run on generated houses, and a page of JupyterLab in Chromium with the run monitor on it and a player that is played again each half minute. Memory,
open files and threads of each are written down each half minute, and what the page holds. A run that ends before the time is followed by another seed.
"""
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from test_browser import CHROMIUM, FLAGS, TUTORIALS, jupyter, opened, stage

MINUTES, EVERY, FIGURES = 90, 30, Path('figures')
STAGES = ('landmarks', 'speaking', 'imitation', 'practice', 'policy', 'reward', 'evaluation')       # of a method run, in its order
TOOL = Path(sys.executable).with_name('nl-irl')
PANELS = "from nl_irl.panels import RunMonitor, TrajectoryPlayer\nfrom IPython.display import display\ndisplay(RunMonitor('run'), TrajectoryPlayer('agent'))"


def train(folder: Path, seed: int) -> subprocess.Popen:
    "A method run in `folder`."
    command = [TOOL, 'run', 'method', '-p', 'preset', 'full', '-p', 'seed', str(seed), '--out', str(folder), '--replace']
    with open(folder.with_suffix('.log'), 'wb') as log: return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


@contextmanager
def going(process):
    "However the block ends, the training `process()` is asked to save and to end."
    try: yield
    finally:
        process().send_signal(signal.SIGTERM)
        process().wait(120)


def below(number: int) -> list:
    "The process `number` and its descendants."
    import psutil
    try: return [process := psutil.Process(number), *process.children(recursive=True)]
    except psutil.NoSuchProcess: return []


def called(process, name: str) -> bool:
    "Whether the command of `process` has `name` in it; one that has ended has none."
    import psutil
    try: return name in ' '.join(process.cmdline()[:3])
    except psutil.Error: return False


def used(processes) -> dict[str, float]:
    "Memory (MB, shared pages divided), open files and threads of `processes` together."
    import psutil
    total = dict(mb=0., files=0, threads=0)
    for process in processes:
        try:
            with process.oneshot(): now = process.memory_full_info().pss / 2 ** 20, process.num_fds(), process.num_threads()
        except psutil.Error: continue
        total = dict(zip(total, (a + b for a, b in zip(total.values(), now))))
    return total


def watch(root: Path, run: Path):
    "A row for each half minute and part: training, kernel, server, browser, page."
    import psutil
    from playwright.sync_api import sync_playwright
    from tqdm import tqdm
    seed, process = 0, train(run, 0)
    while not (run/'metrics.jsonl').exists() and process.poll() is None: time.sleep(1)
    with going(lambda: process), sync_playwright() as driver, jupyter(root, root.parent/'home', 'JupyterLab Light') as address:
        browser, errors = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS), []
        page = opened(browser, address, PANELS, root, errors)
        stage(page).first.wait_for()
        inside = page.context.new_cdp_session(page)
        inside.send('Performance.enable')
        begun = time.monotonic()
        for turn in tqdm(range(MINUTES * 60 // EVERY), unit='look'):
            if process.poll() is not None:
                if process.returncode: raise RuntimeError(run.with_suffix('.log').read_text()[-2000:])
                seed, process = seed + 1, train(run, seed + 1)
            stage(page).first.click(position={'x': 5, 'y': 5})
            for key in ('Home', 'Space'): page.keyboard.press(key)
            page.wait_for_timeout(max(0, 1000 * (begun + (turn + 1) * EVERY - time.monotonic())))
            spent, ours = (time.monotonic() - begun) / 60, below(psutil.Process().pid)
            servers, browsers = ([p for p in ours if called(p, name)] for name in ('jupyter-lab', 'chromium'))
            kernels, runs = [k for p in servers for k in below(p.pid)[1:]], below(process.pid)
            lines = (run/'timings.jsonl').read_text().count('\n') if (run/'timings.jsonl').exists() else 0
            inside.send('HeapProfiler.collectGarbage')
            held = {m['name']: m['value'] for m in inside.send('Performance.getMetrics')['metrics']}
            page_now = dict(mb=held['JSHeapUsedSize'] / 2 ** 20, files=0, threads=0, nodes=held['Nodes'], listeners=held['JSEventListeners'])
            for part, now in dict(training=used(runs), kernel=used(kernels), server=used(servers), browser=used(browsers), page=page_now).items():
                yield dict(part=part, minute=spent, seed=seed, stages=lines) | now
        browser.close()
        if errors: raise RuntimeError(f'the page said {errors[:3]}')


def draw(frame):
    "Memory and open files of each part over time."
    from matplotlib import pyplot as plt
    from matplotlib.ticker import NullFormatter, StrMethodFormatter
    from nl_irl.plots.curves import COLORS, tidy
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout='constrained')
    for k, (part, rows) in enumerate(frame.replace({'mb': 0, 'files': 0}, float('nan')).groupby('part', sort=False)):        # 0 where none ran
        axes[0].plot(rows.minute, rows.mb, color=COLORS[k], label=part)
        if part != 'page': axes[1].plot(rows.minute, rows.files, color=COLORS[k])
    for axis, what in zip(axes, ('memory, MB', 'open files')):
        tidy(axis).set(yscale='log', xlabel='minutes', ylabel=what)
        axis.yaxis.set_major_formatter(StrMethodFormatter('{x:g}'))
        axis.yaxis.set_minor_formatter(NullFormatter())
    figure.legend(ncols=5, frameon=False, loc='outside upper center')
    return figure


def page_of(frame) -> str:
    "endurance.md: each part after ten minutes and at the end, and the training at the beginning and end of each of its stages."
    rows, stages = [], []
    for part, found in frame.groupby('part', sort=False):
        early, late = found[found.minute.between(10, 20)].median(numeric_only=True), found[found.minute > MINUTES - 10].median(numeric_only=True)
        counts = 'nodes' if part == 'page' else 'files'
        rows.append(f'| {part} | {early.mb:,.0f} | {late.mb:,.0f} | {found.mb.max():,.0f} | {early[counts]:,.0f} | {late[counts]:,.0f} |')
    for (seed, ended), found in frame[frame.part == 'training'].groupby(['seed', 'stages']):
        first, last, minute = found.mb[:5].median(), found.mb[-5:].median(), found.minute
        stages.append(f'| {STAGES[ended]}, seed {seed} | {minute.min():.0f} to {minute.max():.0f} | {first:,.0f} | {last:,.0f} | {found.mb.max():,.0f} |')
    return '\n'.join(['# Ninety minutes with panels open', '', '![memory and open files](endurance.png)', '', f'`make endurance`, {time.strftime("%Y-%m-%d")}: '
        'runs of the experiment method on preset `full`, one after the other, and beside them a page of JupyterLab with the run monitor and a player. '
        f'Medians of minutes 10 to 20 and of the last ten, of {frame.minute.max():.0f} minutes. Memory counts shared pages by their share; that of the page '
        'is what its scripts hold, and beside it stand its nodes in place of files.', '',
        '| part | MB early | MB late | MB most | files early | files late |', '| --- | --- | --- | --- | --- | --- |', *rows, '',
        'The training process by its stages, medians of the first and last five looks at each (a look each half minute):', '',
        '| stage | minutes | MB at first | MB at last | MB most |', '| --- | --- | --- | --- | --- |', *stages, ''])


def main() -> None:
    import pandas as pd
    from nl_irl.plots.curves import save_figure
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        root = Path(scratch)/'root'
        root.mkdir()
        shutil.copytree(TUTORIALS/'agent', root/'agent')
        rows = []
        for row in watch(root, root/'run'):
            rows.append(row)
            pd.DataFrame(rows).to_csv(FIGURES/'endurance.csv', index=False, float_format='%.5g')
    frame = pd.DataFrame(rows)
    save_figure(draw(frame), FIGURES, 'endurance')
    (FIGURES/'endurance.md').write_text(page_of(frame))


if __name__ == '__main__':
    print('Ninety minutes: figures/endurance.csv grows with it, the page and the figure are written at the end', flush=True)
    try: main()
    except KeyboardInterrupt: sys.exit('stopped: figures/endurance.csv holds what was seen so far')
