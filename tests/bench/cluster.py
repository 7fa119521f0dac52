"""A sweep on a Ray cluster of two nodes, both processes on this machine: `make cluster` writes figures/cluster.csv and cluster.md, in ten minutes.

Eight runs of imitation, tiny, at 1, 2 and 4 at a time, with the local engine and with Ray's; and once more on two nodes of which one is killed in the
middle. `overhead_of_a_run` is what it takes of its core beside the CPU time of its learning: Python, a kernel, judging, the report.
"""
import os
import resource
import shutil
import tempfile
import threading
import time
from pathlib import Path

import pandas as pd
import ray
import yaml
from ray.cluster_utils import Cluster

from nl_irl.sweeps import read_sweep, sweep

RUNS, FIGURES = 8, Path('figures')
os.environ['OMP_NUM_THREADS'] = '1'


def cells(folder: Path, name: str):
    "A sweep of its own, with nothing done."
    shutil.rmtree(folder/name, ignore_errors=True)
    plan = dict(experiment='imitation', out=str(folder/name), parameters={'preset': 'tiny'}, grid={'seed': list(range(RUNS))})
    (folder/f'{name}.yaml').write_text(yaml.safe_dump(plan))
    return read_sweep(folder/f'{name}.yaml')


def timed(folder: Path, name: str, **engine) -> dict:
    "One sweep: seconds, CPU-seconds of its runs, megabytes on disk."
    todo, began = cells(folder, name), time.time()
    found = sweep(todo, **engine)
    seconds = time.time() - began
    assert [s.state for s in found] == ['done'] * RUNS, found
    disk = sum(f.stat().st_size for f in (folder/name).rglob('*') if f.is_file()) / 2**20 / RUNS
    return dict(seconds=seconds, cpu_of_a_run=sum(s.cpu_s for s in found) / RUNS, mb_of_a_run=disk)


def on_ray(folder: Path, workers: int, *, kill: bool = False) -> dict:
    "The same on a cluster of two nodes; with `kill` the second is lost as soon as a quarter of the runs are done."
    nodes = [1] if workers == 1 else [workers // 2] * 2
    cluster = Cluster(initialize_head=True, head_node_args={'num_cpus': nodes[0]})
    try:
        second = cluster.add_node(num_cpus=nodes[1]) if len(nodes) > 1 else None
        ray.init(address=cluster.address, log_to_driver=False)
        name = f'ray{workers}{"lost" * kill}'
        if kill:
            def lose():
                while len(list((folder/name).glob('*/manifest.json'))) < RUNS // 4: time.sleep(.2)
                cluster.remove_node(second, allow_graceful=False)
            threading.Thread(target=lose, daemon=True).start()
        return timed(folder, name, engine='ray')
    finally:
        ray.shutdown()
        cluster.shutdown()


def main() -> None:
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        timed(folder, 'first', workers=2)                                                # builds the houses
        memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        for workers in (1, 2, 4):
            rows.append(dict(engine='local', at_a_time=workers) | timed(folder, f'local{workers}', workers=workers))
            rows.append(dict(engine='ray', at_a_time=workers) | on_ray(folder, workers))
        rows.append(dict(engine='ray, one of two nodes killed', at_a_time=2) | on_ray(folder, 2, kill=True))
    frame = pd.DataFrame(rows)
    cores = os.cpu_count() or 1
    frame['overhead_of_a_run'] = frame.seconds * frame.at_a_time.clip(upper=cores) / RUNS - frame.cpu_of_a_run
    frame['scaling'] = frame[frame.at_a_time == 1].set_index('engine').seconds.reindex(frame.engine.str.partition(',')[0]).to_numpy() / frame.seconds
    frame['memory_of_a_run_mb'] = memory
    frame.to_csv(FIGURES/'cluster.csv', index=False, float_format='%.4g')
    head = ['# A sweep on a Ray cluster', '', f'`make cluster`, {time.strftime("%Y-%m-%d")}: {RUNS} runs of `imitation -p preset tiny`, one thread each, on '
            f'{cores} cores; Ray runs two nodes on the same machine (one for one run at a time). A run takes up to {memory:,.0f} MB of memory.', '',
            '| engine | runs at a time | seconds | times as fast | CPU-seconds of a run | beside them, seconds a run | MB of a run |',
            '| --- | --- | --- | --- | --- | --- | --- |']
    lines = [f'| {r.engine} | {r.at_a_time} | {r.seconds:.0f} | {r.scaling:.2f} | {r.cpu_of_a_run:.1f} | {r.overhead_of_a_run:.1f} | {r.mb_of_a_run:.1f} |'
             for r in frame.itertuples()]
    (FIGURES/'cluster.md').write_text('\n'.join([*head, *lines, '']))
    print('\n'.join(lines))


if __name__ == '__main__': main()
