"""Steps a CPU-second of the Gymnasium vector environment on one core, beside the tables that it steps in (`nl_irl.environment`), gymnasium's own vector
environment over single ones, and one single environment, in one run: `make bench`. All observe the whole panorama; actions are open and never STOP.
"""
import time

import gymnasium
import numpy as np
import pytest
import torch

import nl_irl.gym
from nl_irl.environment import Environment, observe, step

STEPS, HORIZON = 20, 14


@pytest.fixture(scope='module')
def parts():
    world, split, vocabulary = nl_irl.gym.source('houses', 'demo', None)
    return dict(env=Environment(world), episodes=split('train'), encoder=vocabulary, horizon=HORIZON)


pytestmark = pytest.mark.usefixtures('one_thread')


def timed(benchmark, run, name, batch):
    spent = []
    def once():
        before = time.process_time()
        for _ in range(STEPS): run()
        spent.append(time.process_time() - before)
    benchmark.pedantic(once, rounds=7, warmup_rounds=1)
    rate = batch * STEPS / float(np.median(spent[1:]))
    benchmark.extra_info['steps_per_second'] = round(rate)
    print(f'\n{name}, batch {batch}: {rate:,.0f} steps a CPU-second')


@pytest.mark.parametrize('batch', [1, 64, 1024, 8192])
def test_tables(benchmark, parts, batch):
    env, action = parts['env'], torch.ones(batch, dtype=torch.int64)          # slot 0 exists everywhere
    rng = np.random.default_rng(0)
    state = env.reset(rng.integers(len(env.world.ids), size=batch), rng.uniform(0, 6, batch))

    def run():
        nonlocal state
        state = step(env, state, action)
        observe(env, state)
    timed(benchmark, run, 'tables', batch)


@pytest.mark.parametrize('text', [False, True])
@pytest.mark.parametrize('batch', [1, 64, 1024, 8192])
def test_vector(benchmark, parts, batch, text):
    env = nl_irl.gym.NavigationVectorEnv(**parts | ({'encoder': None} if text else {}), num_envs=batch)
    env.reset(seed=0)
    timed(benchmark, lambda: env.step(np.ones(batch, int)), f'vector environment ({"text" if text else "numbers"})', batch)


@pytest.mark.parametrize('batch', [64])
def test_gymnasium_over_single(benchmark, parts, batch):
    env = gymnasium.vector.SyncVectorEnv([lambda: nl_irl.gym.NavigationEnv(**parts)] * batch)
    env.reset(seed=0)
    timed(benchmark, lambda: env.step(np.ones(batch, int)), 'gymnasium over single environments', batch)
