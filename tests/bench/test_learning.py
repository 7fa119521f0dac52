"""Adversarial learning beside the `imitation` library, in the house of tests/reference; and what one step of each learner of the method takes.

Both sides count steps of the environment (ours without those after STOP, the library's with them) and transitions that the discriminator learned from; and
how long they learn until their policy arrives from everywhere. Ours improves its policy on the tree of routes, or as the library does, where the graph is
not known: by actor and critics.
"""
import functools
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_reference import DATA, ENV, SETTINGS, fresh, success

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
        self.counts = dict(steps=0, judged=0)
        add, learn = self.experience.replay.add, self.judging.learn
        def added(walks, of):
            if (of.kind == COMMANDED).all(): self.counts['steps'] += int((walks.target >= 0).sum())
            add(walks, of)
        def learned(walks, kind, weight):
            self.counts['judged'] += int(walks.active.sum())
            return learn(walks, kind, weight)
        self.experience.replay.add, self.judging.learn = added, learned


def learner_of(form, who, seed=0, copies=1):
    "As in tests/test_reference.py, in batches of all demonstrations `copies` times."
    data = stack(*[DATA] * copies)
    sizes = dict(each=len(data.target), buffer=4 * len(data.target), updates=10_000)
    if 'actor' in who: sizes |= dict(improvement='sac', ceiling=1.)
    config = AdversarialConfig(**SETTINGS | dict(form=form.lower()) | sizes)
    return Counting(fresh(), ENV, data, config, rng=np.random.default_rng(seed), generator=torch.Generator().manual_seed(seed))


def spent(learner, updates):
    "CPU-seconds of so many more updates."
    before = time.process_time()
    for _ in range(updates): learner.update()
    return time.process_time() - before


@functools.cache
def rates(form, who, rounds=5):
    "What is counted, a CPU-second, in each round of UPDATES after the first."
    learner, found = learner_of(form, who, copies=COPIES), []
    for _ in range(1 + rounds):
        before = dict(learner.counts)
        seconds = spent(learner, UPDATES)
        found.append({what: (n - before[what]) / seconds for what, n in learner.counts.items()})
    return {what: [each[what] for each in found[1:]] for what in learner.counts}


LIBRARY = 'imitation 1.0.1'


@pytest.mark.parametrize('counts', ['steps', 'judged'])
@pytest.mark.parametrize('form', ['AIRL', 'GAIL'])
@pytest.mark.parametrize('who', ['nl_irl', 'nl_irl, soft actor-critic', LIBRARY])
def test_adversarial_learning(benchmark, note, peer, form, who, counts):
    found = benchmark.pedantic(lambda: peer('library')[form] if who == LIBRARY else rates(form, who), rounds=1)
    note(f'{form}, a small house', who, found[counts], {'steps': 'steps', 'judged': 'transitions judged'}[counts] + '/CPU-s')


@pytest.mark.parametrize('form', ['AIRL', 'GAIL'])
@pytest.mark.parametrize('who', ['nl_irl', LIBRARY])
def test_learning_to_arrive(benchmark, note, peer, form, who):
    case = f'{form}, until it arrives from everywhere'
    if who == LIBRARY: return note(case, who, benchmark.pedantic(lambda: peer('library')[form]['arrives'], rounds=1), 'CPU-s')
    seconds = []
    def once():
        learner = learner_of(form, who, seed=len(seconds))
        seconds.append(0.)
        while success(learner.actor.policy) < 1:
            assert learner.updates < 200, f'{form} does not arrive'
            seconds[-1] += spent(learner, UPDATES)
    benchmark.pedantic(once, rounds=3)
    note(case, who, seconds, 'CPU-s')


@functools.cache
def parts():
    "Generated houses as the method sees them: demonstrations and their mirror images."
    chosen, bench = settings('houses', 'demo'), load_benchmark('houses', preset='demo')
    shown = demonstrated(bench)
    vocabulary = build_vocabulary((e.task.text for e in shown), minimum=chosen.minimum)
    learned, env = [*shown, *mirror_episodes(shown)], Environment(with_mirror(bench.world))
    return chosen, env, batch_of(env.world, learned, vocabulary), levels_of(learned), vocabulary, bench.world.labels


LEARNERS = ('imitation', 'speaking', 'reward', 'adversarial')


def part_of_the_method(what):
    "What learns, and how many demonstrations an update of it takes."
    chosen, env, data, level, vocabulary, labels = parts()
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
    return learner, len(learner.batches.draw()[0].target) if what in ('reward', 'adversarial') else learner.config.batch


@pytest.mark.parametrize('what', LEARNERS)
def test_a_step(measure, what):
    learner, size = part_of_the_method(what)
    measure(lambda: [learner.update() for _ in range(UPDATES)], f'one update, {what}', amount=UPDATES, unit='updates', size=size)
