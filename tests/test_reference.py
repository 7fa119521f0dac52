"""Beside the `imitation` library, on a small house without language: the same agents arrive, and the rewards that are learned have the same sign and order.

What the library does there is recorded in reference/imitation_library.json, by the script beside it.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from nl_irl.adversarial import Adversarial, AdversarialConfig
from nl_irl.batches import batch_of
from nl_irl.environment import STOP, Environment
from nl_irl.imitation import Imitation, ImitationConfig
from nl_irl.models.discriminator import watch
from nl_irl.models.policy import Policy, PolicyConfig
from nl_irl.rollout import Questions, rollout
from nl_irl.text import build_vocabulary
from nl_irl.types import Episode, Task
from nl_irl.worlds.tables import Scan, assemble

HERE = Path(__file__).parent/'reference'
HOUSE, LIBRARY = (json.loads((HERE/f'{name}.json').read_text()) for name in ('house', 'imitation_library'))
GOAL, NEIGHBORS = HOUSE['goal'], LIBRARY['neighbors']
PLACES = range(len(NEIGHBORS))
STARTS = [place for place in PLACES if place != GOAL]


def floor():
    "The house as a world in which every viewpoint has a thing of its own, seen from its neighbours."
    at = np.array([[4 * (k % HOUSE['columns']), 4 * (k // HOUSE['columns']), 0] for k in PLACES], float)
    pairs = np.array([(a, b) for a in PLACES for b in NEIGHBORS[a]])
    views = tuple(np.zeros((len(PLACES), 36, 1), kind) for kind in (np.int16, np.float16))
    for a, b in pairs:
        view = 12 + round(np.arctan2(*(at[b] - at[a])[:2]) / (np.pi / 6)) % 12
        views[0][a, view], views[1][a, view] = b + 1, .8
    scan = Scan('floor', [f'p{k}' for k in PLACES], at, np.zeros(len(PLACES)), pairs)
    return assemble('floor', [scan], ['', *(f'thing {k}' for k in PLACES)], views)


def shown(start):
    "The demonstrator's path."
    path = [start]
    while path[-1] != GOAL: path.append(NEIGHBORS[path[-1]][LIBRARY['expert'][path[-1]] - 1])
    return tuple(f'p{k}' for k in path)


VOCABULARY = build_vocabulary(['go there'])
ENV = Environment(floor(), top=1)
DATA = batch_of(ENV.world, [Episode(Task(f'{s}_0', 'floor', f'p{s}', 0., 'go there'), shown(s)) for s in STARTS], VOCABULARY)
SETTINGS = dict(updates=60, warmup=5, houses=1, each=len(STARTS), horizon=HOUSE['horizon'], buffer=256, mismatched=0., relabelled=0., rephrased=0., near=.1,
                warm=False, improvement='tree', moves=6, questions=len(STARTS), alpha=.1, rate=1e-2, judge_rate=1e-2, ceiling=.95)


pytestmark = pytest.mark.usefixtures('one_thread')


def fresh():
    torch.manual_seed(0)
    sizes = dict(width=32, word_width=16, label_width=16, landmark_width=16)
    return Policy(PolicyConfig(words=len(VOCABULARY), labels=len(ENV.world.labels), dropout=0., label_dropout=0., **sizes))


def success(policy, generator=None):
    "The share of starts from which it stops at the goal."
    done = rollout(policy, ENV, Questions(DATA.tokens, DATA.viewpoint[:, 0].numpy(), DATA.heading[:, 0].numpy()), horizon=HOUSE['horizon'], generator=generator)
    stopped = ((done.action == STOP) & done.active).any(1).tolist()
    return np.mean([bool(s) and path[-1] == GOAL for s, path in zip(stopped, done.paths)])


def test_cloning_arrives_from_everywhere_as_the_library_does():
    policy, chance = fresh(), torch.Generator().manual_seed(0)
    by_chance = np.mean([success(policy, chance) for _ in range(20)])
    config = ImitationConfig(updates=120, rate=1e-2, warmup=5, batch=11, student=0., checks=1)
    learner = Imitation(policy, ENV, DATA, config, rng=np.random.default_rng(0), generator=chance)
    for _ in range(120): learner.update()
    assert LIBRARY['success']['random'] < .1 and by_chance < .1
    assert LIBRARY['success']['bc'] == success(policy) == 1


@pytest.mark.parametrize('form', ['gail', 'airl'])
def test_adversaries_arrive_and_reward_as_the_library_does(form):
    config, chance = AdversarialConfig(form=form, **SETTINGS), torch.Generator().manual_seed(0)
    learner = Adversarial(fresh(), ENV, DATA, config, rng=np.random.default_rng(0), generator=chance)
    for _ in range(60): learner.update()
    assert LIBRARY['success']['random'] < .1 and .5 < LIBRARY['success'][form] <= success(learner.actor.policy) == 1        # the library's AIRL does not always
    walks = watch(ENV, DATA, learner.judging.base)
    ours, theirs, right = [], [], []                                          # of every action that is open where a demonstration begins, beside STOP there
    for place, reward in zip(STARTS, learner.judging.judge.rewards(walks)[:, 0].tolist()):
        slots = [STOP, *(1 + ENV.world.neighbor[place].tolist().index(n) for n in NEIGHBORS[place])]
        for action, slot in enumerate(slots):
            ours.append(reward[slot] - reward[STOP])
            theirs.append(LIBRARY['reward'][form][place][action] - LIBRARY['reward'][form][place][0])
            right.append(action == LIBRARY['expert'][place])
    ours, theirs, right = map(np.array, (ours, theirs, right))
    for reward in (ours, theirs): assert reward[right].mean() > reward[~right].mean() and (reward[right] > 0).mean() > .9
    assert spearmanr(ours, theirs).statistic > .5
