"""Adversarial learning beside the `imitation` library, in the house of tests/reference; and what one step of each learner of the method takes.

Both sides count steps of the environment (ours without those after STOP, the library's with them) and transitions that the discriminator learned from.
"""
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_reference import DATA, ENV, SETTINGS, fresh

from nl_irl.adversarial import Adversarial, AdversarialConfig
from nl_irl.batches import COMMANDED, batch_of, stack
from nl_irl.benchmarks import demonstrated, load_benchmark, settings
from nl_irl.environment import Environment
from nl_irl.imitation import Imitation
from nl_irl.models.generator import GeneratorConfig, GoalGenerator
from nl_irl.models.policy import Policy, PolicyConfig
from nl_irl.models.reward import RouteReward
from nl_irl.route_irl import RouteIRL
from nl_irl.speaking import Speaking, levels_of
from nl_irl.text import build_vocabulary
from nl_irl.worlds.mirror import mirror_episodes, with_mirror

COPIES, UPDATES = 64, 5


class Counting(Adversarial):
    "Counts what it walks, and what its discriminator learns from."
    def __init__(self, *args, **settings_):
        super().__init__(*args, **settings_)
        add, learn = self.experience.replay.add, self.judging.learn
        def added(walks, of):
            if (of.kind == COMMANDED).all(): self.walked += int((walks.target >= 0).sum())
            add(walks, of)
        def learned(walks, kind, weight):
            self.judged += int(walks.active.sum())
            return learn(walks, kind, weight)
        self.experience.replay.add, self.judging.learn = added, learned


@pytest.mark.parametrize('counts', ['steps', 'judged'])
@pytest.mark.parametrize('form', ['AIRL', 'GAIL'])
@pytest.mark.parametrize('who', ['nl_irl', 'imitation 1.0.1'])
def test_adversarial_learning(benchmark, note, peer, form, who, counts):
    case, unit = f'{form}, a small house', {'steps': 'steps', 'judged': 'transitions judged'}[counts] + '/CPU-s'
    if who != 'nl_irl':
        note(case, who, benchmark.pedantic(lambda: peer('library')[form][counts], rounds=1), unit)
        return
    data = stack(*[DATA] * COPIES)
    sizes = dict(each=len(data.target), buffer=4 * len(data.target), improvement='sac', ceiling=1., updates=10_000)
    config = AdversarialConfig(**SETTINGS | dict(form=form.lower()) | sizes)
    learner = Counting(fresh(), ENV, data, config, rng=np.random.default_rng(0), generator=torch.Generator().manual_seed(0))
    rates = []
    def once():
        learner.walked = learner.judged = 0
        before = time.process_time()
        for _ in range(UPDATES): learner.update()
        rates.append((learner.walked if counts == 'steps' else learner.judged) / (time.process_time() - before))
    benchmark.pedantic(once, rounds=7, warmup_rounds=1)
    note(case, who, rates[1:], unit)


@pytest.fixture(scope='module')
def parts():
    "Generated houses as the method sees them: demonstrations and their mirror images."
    chosen, bench = settings('houses', 'demo'), load_benchmark('houses', preset='demo')
    shown = demonstrated(bench)
    vocabulary = build_vocabulary((e.task.text for e in shown), minimum=chosen.minimum)
    learned, env = [*shown, *mirror_episodes(shown)], Environment(with_mirror(bench.world))
    return chosen, env, batch_of(env.world, learned, vocabulary, horizon=chosen.horizon), levels_of(learned), vocabulary, bench.world.labels


@pytest.mark.parametrize('what', ['imitation', 'speaking', 'reward', 'adversarial'])
def test_a_step(measure, parts, what):
    chosen, env, data, level, vocabulary, labels = parts
    torch.manual_seed(0)
    sizes, chance, rng = dict(words=len(vocabulary), labels=len(labels)), torch.Generator().manual_seed(0), np.random.default_rng(0)
    policy = Policy(PolicyConfig(**sizes, **chosen.policy))
    if what == 'imitation': learner = Imitation(policy, env, data, chosen.imitation, rng=rng, generator=chance)
    if what == 'speaking':
        goals = GoalGenerator(GeneratorConfig(**sizes, **chosen.generator))
        goals.know(labels, vocabulary)
        learner = Speaking(goals, env, data, level, chosen.speaking, rng=rng)
    if what == 'reward':
        reward = RouteReward(PolicyConfig(**sizes, **chosen.reward))
        learner = RouteIRL(reward, env, data, chosen.route_irl, policy=policy, horizon=chosen.horizon, rng=rng, generator=chance)
    if what == 'adversarial':
        learner = Adversarial(policy, env, data, replace(chosen.adversarial, relabelled=0., rephrased=0.), rng=rng, generator=chance)
    size = len(learner.batches.draw()[0].target) if what in ('reward', 'adversarial') else learner.config.batch
    measure(lambda: [learner.update() for _ in range(UPDATES)], f'one update, {what}', amount=UPDATES, unit='updates', size=size)
