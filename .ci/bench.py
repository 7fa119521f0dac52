"""The table and figure of `make bench`: figures/bench.csv, bench.md, bench.png and bench.pdf, from the report of pytest-benchmark that is named."""
import json
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from nl_irl.plots.curves import COLORS, save_figure, tidy

FIGURES, OURS = Path('figures'), 'nl_irl'


def table(report: dict) -> pd.DataFrame:
    "A row for each benchmark, in its order: median, least and most of its rounds, and how many times as fast ours is at the same size."
    rows = [b['extra_info'] for b in report['benchmarks'] if 'case' in b['extra_info']]
    frame = pd.DataFrame([{k: r[k] for k in ('case', 'size', 'who', 'unit')} | pd.Series(r['rounds']).agg(['median', 'min', 'max']).to_dict() for r in rows])
    ours = frame[frame.who == OURS].set_index(['case', 'unit', 'size'])['median']
    def times(row) -> float:
        if row.who.startswith(OURS) or (row.case, row.unit, row['size']) not in ours.index: return float('nan')
        mine = ours[row.case, row.unit, row['size']]
        return mine / row['median'] if row.unit.endswith('/CPU-s') else row['median'] / mine
    return frame.assign(times=frame.apply(times, axis=1))


def spelled(frame: pd.DataFrame, about: str) -> str:
    "The table as Markdown."
    short = lambda x: f'{x:,.0f}' if x >= 100 else f'{x:.3g}'
    lines = [f'| {r["case"]} | {r["size"]} | {r["who"]} | {short(r["median"])} [{short(r["min"])}, {short(r["max"])}] {r["unit"]} | '
             f'{"" if pd.isna(r["times"]) else format(r["times"], ".1f")} |' for r in frame.to_dict('records')]
    return '\n'.join(['# Speed, side by side', '', '![bench](bench.png)', '', about, '',
                      '| what | at a time | who | median [least, most] | ours is times as fast |', '| --- | --- | --- | --- | --- |', *lines, ''])


def draw(frame: pd.DataFrame) -> plt.Figure:
    "Bars of how many times as fast ours is, for each peer."
    peers = frame.dropna(subset=['times'])[::-1]
    figure, ax = plt.subplots(figsize=(8, .28 * len(peers) + 1), layout='constrained')
    ax.barh([', '.join(str(r[k]) for k in ('case', 'size', 'who') if r[k] != '') for r in peers.to_dict('records')], peers.times, color=COLORS[0])
    ax.axvline(1, color='black', linewidth=.8)
    tidy(ax).set(xscale='log', xlabel='ours is so many times as fast, by CPU time')
    return figure


def main(report: Path) -> None:
    told = json.loads(report.read_text())
    commit = subprocess.run(['git', 'rev-parse', '--short=9', 'HEAD'], capture_output=True, text=True).stdout.strip()
    about = (f"`make bench` at commit {commit}, {told['datetime'][:10]}, one thread of {told['machine_info']['cpu'].get('brand_raw', 'a CPU')}, "
             f"Python {told['machine_info']['python_version']}. Rates are by CPU time of the process; peers run in the same session, in one thread too.")
    frame = table(told)
    frame.to_csv(FIGURES/'bench.csv', index=False)
    (FIGURES/'bench.md').write_text(spelled(frame, about))
    save_figure(draw(frame), FIGURES, 'bench')
    print(spelled(frame, about))


if __name__ == '__main__': main(Path(sys.argv[1]))
