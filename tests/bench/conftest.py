"""What benchmarks share: every round's CPU time goes into the report, from which .ci/bench.py makes the table; and peers in an environment of their own."""
import json
import os
import subprocess
import time
from pathlib import Path

import pytest

OURS = 'nl_irl'
PEERS = Path(__file__).parent/'peers'
PYTHON = Path(__file__).parents[2]/'.venv-peers'/'bin'/'python'


@pytest.fixture(autouse=True)
def alone(one_thread):
    "Everything is measured in one thread."


@pytest.fixture
def note(benchmark):
    "Put into the report what `who` reached in each round of `case`: in `unit`, `size` at a time."
    def put(case, who, rounds, unit, size=''):
        benchmark.extra_info.update(case=case, who=who, rounds=rounds, unit=unit, size=size)
        middle = sorted(rounds)[len(rounds) // 2]
        print(f'\n{case}{f", {size}" if size != "" else ""}: {who}: {middle:,.4g} {unit} ({min(rounds):,.4g} to {max(rounds):,.4g})')
    return put


@pytest.fixture
def measure(benchmark, note):
    "Time calls of `run`, each of which does `amount` of something; without an amount it is the CPU-seconds that are told."
    def timed(run, case, who=OURS, *, amount=0, unit='CPU-s', size='', rounds=7):
        spent = []
        def once():
            before = time.process_time()
            run()
            spent.append(time.process_time() - before)
        benchmark.pedantic(once, rounds=rounds, warmup_rounds=1)
        note(case, who, [amount / s if amount else s for s in spent[1:]], f'{unit}/CPU-s' if amount else unit, size)
    return timed


@pytest.fixture(scope='session')
def peer():
    "What the script `name` of peers/ prints as JSON, run in one thread with the peers' own Python."
    told = {}
    def run(name):
        if not PYTHON.exists(): pytest.skip('make bench installs what the project is measured beside, in .venv-peers')
        if name not in told:
            done = subprocess.run([PYTHON, PEERS/f'{name}.py'], capture_output=True, text=True, env=os.environ | {'OMP_NUM_THREADS': '1'})
            assert done.returncode == 0, done.stderr[-2000:]
            told[name] = json.loads(done.stdout.splitlines()[-1])
        return told[name]
    return run
