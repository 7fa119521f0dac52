"""Steps a CPU-second of the Gymnasium vector environment on one core, beside the tables that it steps in (`nl_irl.environment`) and gymnasium's own vector
environment over single ones. All observe the whole panorama; actions are open and never STOP.
"""
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


def stepped(run):
    "`run`, STEPS times."
    return lambda: [run() for _ in range(STEPS)]


@pytest.mark.parametrize('batch', [1, 64, 1024, 8192])
def test_tables(measure, parts, batch):
    env, action = parts['env'], torch.ones(batch, dtype=torch.int64)          # slot 0 exists everywhere
    rng = np.random.default_rng(0)
    state = env.reset(rng.integers(len(env.world.ids), size=batch), rng.uniform(0, 6, batch))

    def run():
        nonlocal state
        state = step(env, state, action)
        observe(env, state)
    measure(stepped(run), 'gymnasium', 'nl_irl, its tables alone', amount=batch * STEPS, unit='steps', size=batch)


@pytest.mark.parametrize('text', [False, True])
@pytest.mark.parametrize('batch', [1, 64, 1024, 8192])
def test_vector(measure, parts, batch, text):
    env = nl_irl.gym.NavigationVectorEnv(**parts | ({'encoder': None} if text else {}), num_envs=batch)
    env.reset(seed=0)
    measure(stepped(lambda: env.step(np.ones(batch, int))), 'gymnasium', 'nl_irl' + ', instructions as text' * text, amount=batch * STEPS, unit='steps',
            size=batch)


@pytest.mark.parametrize('batch', [64])
def test_gymnasium_over_single(measure, parts, batch):
    env = gymnasium.vector.SyncVectorEnv([lambda: nl_irl.gym.NavigationEnv(**parts)] * batch)
    env.reset(seed=0)
    measure(stepped(lambda: env.step(np.ones(batch, int))), 'gymnasium', 'SyncVectorEnv over single ones', amount=batch * STEPS, unit='steps', size=batch)
