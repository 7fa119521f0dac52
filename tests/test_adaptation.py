"""Adaptation: nothing of an evaluation is learned from, controls differ in their labels alone, and bad input says what would do."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nl_irl.adaptation import LABELS, Adaptation, AdaptationConfig, adapt, explorer_config, goal_agnostic, learned_before, met, moves_of
from nl_irl.batches import batch_of
from nl_irl.evaluation import retold, shuffled
from nl_irl.learned import open_run
from nl_irl.runs import Run
from nl_irl.worlds.tables import distance_between

SMALL = AdaptationConfig(walks=12, explorer_updates=3, updates=3, reward_updates=2)


@pytest.fixture(scope='module')
def agent(): return open_run(Run.open(Path(__file__).parents[1]/'nbs'/'tutorials'/'agent'))


@pytest.fixture(scope='module')
def homes(agent): return sorted({e.task.scan for e in agent.bench.splits['val_unseen']})[:2]


def weights(found): return [v for name in ('policy', 'reward') for v in found.network(name).state_dict().values()]


def equal(one, other): return all(torch.equal(a, b) for a, b in zip(weights(one), weights(other), strict=True))


def test_evaluations_are_not_learned_from_and_a_seed_repeats(agent, homes):
    splits = dict(agent.bench.splits)
    unseen = [replace(e, path=e.path[:1]) for e in shuffled(splits['val_unseen'], rng=np.random.default_rng(0))]
    other = replace(agent, bench=replace(agent.bench, splits=splits | {'val_unseen': [retold(e, 'jump') for e in unseen], 'val_seen': []}))
    one = adapt(agent, homes, SMALL, seed=3)
    assert equal(one, adapt(other, homes, SMALL, seed=3)) and not equal(one, adapt(agent, homes, SMALL, seed=4)) and not equal(one, agent)


def test_controls_learn_from_the_same_walks(agent, homes):
    data, level = learned_before(agent)
    made = {labels: Adaptation(agent, homes, replace(SMALL, labels=labels, explorer='shortest', walks=60), data, level) for labels in LABELS}
    walks = {labels: m.told.viewpoint for labels, m in made.items()}
    assert torch.equal(walks['generator'], walks['permuted']) and torch.equal(walks['generator'], walks['assigned']) and len(walks['generator']) > 20
    words = {labels: agent.vocabulary.decode(m.told.tokens.numpy()) for labels, m in made.items()}
    moved = np.mean([a != b for a, b in zip(words['generator'], words['permuted'])])
    assert sorted(words['generator']) == sorted(words['permuted']) and moved > .8
    said = {s for s in agent.vocabulary.decode(data.tokens.numpy())}
    assert {*words['assigned']} <= said and words['none'] == [] and not {*words['generator']} <= said
    sizes = {labels: len(m.imitation.batches.length) for labels, m in made.items()}
    assert sizes['generator'] == sizes['permuted'] == sizes['assigned'] == 2 * len(words['generator'])


def test_paths_that_were_walked_by_chance_are_found(agent):
    world, episodes = agent.bench.world, agent.bench.splits['val_unseen'][:30]
    walks = batch_of(world, episodes[:10], agent.vocabulary)
    assert met(world, walks, episodes) >= {e.path_id for e in episodes[:10]}
    one_more = walks._replace(viewpoint=walks.viewpoint[:, :-1], target=walks.target[:, 1:])                   # all a step shorter
    assert not met(world, one_more, episodes[:10]) & {e.path_id for e in episodes[:10] if len(e.path) > 2}


@pytest.mark.parametrize('wrong, words', [({'labels': 'true'}, "one of generator, permuted"), ({'explorer': 'me'}, "'policy' or 'shortest'"),
                                          ({'original': 1.}, 'between 0 and 1'), ({'walks': 0}, 'over 0')])
def test_bad_settings_are_refused(wrong, words):
    with pytest.raises(ValueError, match=words): AdaptationConfig(**wrong)


def test_a_house_that_is_not_there_is_named(agent):
    with pytest.raises(ValueError, match=r"no house 'castle'; it has house000, .* \.\.\. house059"): adapt(agent, ['castle'], SMALL)


def test_routes_told_of_lead_along_what_was_walked(agent, homes):
    data, level = learned_before(agent)
    explorer = goal_agnostic(agent, data, explorer_config(agent, SMALL)).policy
    made = {routed: Adaptation(agent, homes, replace(SMALL, walks=30, routed=routed), data, level, explorer=explorer) for routed in (True, False)}
    walked = set(moves_of(made[True].walked).unique().tolist())
    assert set(moves_of(made[True].told).unique().tolist()) <= walked and 0 < len(made[True].told.target)
    world, told = agent.bench.world, made[True].told
    ends = told.viewpoint.gather(1, (told.target >= 0).sum(1, keepdim=True) - 1)[:, 0].numpy()
    length = [sum(distance_between(world, p[:-1], p[1:])) for p in (row[:n] for row, n in zip(told.viewpoint.numpy(), (told.target >= 0).sum(1).tolist()))]
    assert np.allclose(length, distance_between(world, told.viewpoint[:, 0].numpy(), ends))
    rows = lambda batch: {tuple(row) for row in batch.viewpoint.tolist()}
    assert rows(made[False].told) <= rows(made[False].walked)
