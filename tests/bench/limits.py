"""How far from its floor each update is: `make limits` writes figures/limits.md.

The floor of an update is the time that its products of matrices would take at the rate of a large one (float32, one thread); what is above it is memory that
is moved, elements worked on one by one, and Python. That of an environment step is the bytes of its observation at the rate of a copy.
"""
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parents[1]))
from test_learning import LEARNERS, part_of_the_method  # noqa: E402

from nl_irl.environment import Environment, observe, step  # noqa: E402
from nl_irl.worlds.houses import houses  # noqa: E402

UPDATES, STEPS, BATCH = 10, 50, 1024
KINDS = {'products': ('aten::mm', 'aten::addmm', 'aten::bmm', 'aten::baddbmm'),
         'recurrent layers': ('aten::mkldnn_rnn_layer', 'aten::mkldnn_rnn_layer_backward'),
         'gathers and copies': ('aten::copy_', 'aten::cat', 'aten::index_select', 'aten::index', 'aten::gather', 'aten::scatter_add_', 'aten::index_add_',
                                'aten::_embedding_bag_dense_backward', 'aten::_index_put_impl_')}


def seconds(run, times: int) -> float:
    "CPU-seconds of one of `times` calls, after three."
    for _ in range(3): run()
    before = time.process_time()
    for _ in range(times): run()
    return (time.process_time() - before) / times


def flops(run) -> float:
    "Floating-point operations in products, with recurrent layers taken apart into theirs."
    with torch.backends.mkldnn.flags(enabled=False), FlopCounterMode(display=False) as counted: run()
    return counted.get_total_flops()


def shares(run) -> dict[str, float]:
    "Of the CPU time of `run`, what each of KINDS takes, and the rest of torch's operators; what is left is Python."
    before = time.process_time()
    with profile(activities=[ProfilerActivity.CPU]) as seen: run()
    whole = time.process_time() - before
    spent = {event.key: event.self_cpu_time_total / 1e6 for event in seen.key_averages()}
    found = {kind: sum(spent.get(name, 0) for name in names) / whole for kind, names in KINDS.items()}
    return found | {'other operators': sum(spent.values()) / whole - sum(found.values())}


def main() -> None:
    torch.set_num_threads(1)
    square, here, there = torch.rand(1024, 1024), torch.rand(2**18), torch.rand(2**18)
    rate, moved = 2 * 1024**3 / seconds(lambda: square @ square, 20), 2 * here.nbytes / seconds(lambda: there.copy_(here), 1000)
    spelled, lines = lambda found: ', '.join(f'{kind} {share:.0%}' for kind, share in found.items()), []
    for what in LEARNERS:
        learner, size = part_of_the_method(what)
        took = seconds(learner.update, UPDATES)
        count = np.mean([flops(learner.update) for _ in range(3)])
        floor = count / rate
        lines.append(f'| update, {what} | {size} | {1000 * took:.0f} | {count / 1e9:.1f} GFLOP | {1000 * floor:.0f} | {took / floor:.1f} | '
                     f'{spelled(shares(learner.update))} |')
    world = houses('demo').world
    env, rng = Environment(world), np.random.default_rng(0)
    state, action = env.reset(rng.integers(len(world.ids), size=BATCH), np.zeros(BATCH)), torch.ones(BATCH, dtype=torch.int64)
    one = lambda: observe(env, step(env, state, action))
    took, count = seconds(one, STEPS), 2 * sum(x.nbytes for x in observe(env, state))                   # read from the tables, and written
    floor = count / moved
    lines.append(f'| environment step | {BATCH} | {1000 * took:.2f} | {count / 1e6:.1f} MB | {1000 * floor:.2f} | {took / floor:.1f} | '
                 f'{spelled(shares(lambda: [one() for _ in range(STEPS)]))} |')
    about = (f'`make limits`, {time.strftime("%Y-%m-%d")}, one thread: float32 products of 1,024 x 1,024 run at {rate / 1e9:.0f} GFLOP a second, copies of a '
             f'megabyte at {moved / 1e9:.0f} GB a second, read and written. Preset demo of the generated houses. The rest, up to 100 %, is Python overhead.')
    columns = ('what', 'at a time', 'CPU-ms', 'work', 'floor, CPU-ms', 'times the floor', 'where the time goes')
    head = ['# Limits', '', about, '', '| ' + ' | '.join(columns) + ' |', '| ' + ' | '.join(['---'] * len(columns)) + ' |']
    Path('figures/limits.md').write_text('\n'.join([*head, *lines, '']))
    print('\n'.join([*head, *lines]))


if __name__ == '__main__':
    print('Some minutes: figures/limits.md is written at the end', flush=True)
    try: main()
    except KeyboardInterrupt: sys.exit('stopped: figures/ is as it was')
