"""The instruction follower: what it is given, that it turns with the house, and that a seed decides everything."""
import dataclasses

import numpy as np
import pytest
import torch

from nl_irl.agents import random_heading, shortest_paths
from nl_irl.benchmarks import load_benchmark
from nl_irl.environment import HEADINGS, Environment, Observation
from nl_irl.evaluation import judge, results
from nl_irl.imitation import Batch, Imitation, ImitationConfig, batch_of
from nl_irl.models.policy import Policy, PolicyConfig
from nl_irl.rollout import Questions, run_episodes
from nl_irl.text import build_vocabulary
from nl_irl.types import Task
from nl_irl.worlds.tables import ROWS


@pytest.fixture(scope='module', autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope='module')
def bench():
    return load_benchmark('houses', preset='tiny')


@pytest.fixture(scope='module')
def vocabulary(bench):
    return build_vocabulary(e.task.text for e in bench.splits['train'])


def small_policy(bench, vocabulary, seed=0):
    torch.manual_seed(seed)
    return Policy(PolicyConfig(words=len(vocabulary), labels=len(bench.world.labels), width=32, word_width=16, label_width=16))


def turned(bench, quarters):
    "The same benchmark after a turn by `quarters` times 90 degrees clockwise, as seen from above."
    angle, world = quarters * np.pi / 2, bench.world
    x, y, z = world.position.T
    edge = world.edge.copy()
    edge[..., 0] = np.where(world.neighbor >= 0, (edge[..., 0] + angle) % (2 * np.pi), 0)
    roll = lambda table: np.roll(table.reshape(len(x), ROWS, HEADINGS, -1), quarters * HEADINGS // 4, axis=2).reshape(table.shape)
    position = np.stack([x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle), z], 1).astype(np.float32)
    turned_world = dataclasses.replace(world, position=position, edge=edge, view_label=roll(world.view_label), view_weight=roll(world.view_weight))
    turn = lambda e: dataclasses.replace(e, task=dataclasses.replace(e.task, heading=e.task.heading + angle))
    return turned_world, {name: [turn(e) for e in episodes] for name, episodes in bench.splits.items()}


def test_a_policy_is_given_nothing_of_the_answer():
    assert Questions._fields == ('tokens', 'start', 'heading')
    assert Observation._fields == ('label', 'weight', 'heading', 'candidate', 'direction', 'open', 'feature', 'beyond_label', 'beyond_weight')
    assert set(Task.__dataclass_fields__) == {'id', 'scan', 'start', 'heading', 'text'}


@pytest.mark.parametrize('quarters', [1, 2, 3])
def test_a_turned_house_gives_the_same_routes_and_scores(bench, vocabulary, quarters):
    policy = small_policy(bench, vocabulary)
    world, splits = turned(bench, quarters)
    first, rollouts = judge(policy, Environment(bench.world), bench.splits['val_unseen'], vocabulary, agent='a', split='val_unseen', horizon=8)
    second, again = judge(policy, Environment(world), splits['val_unseen'], vocabulary, agent='a', split='val_unseen', horizon=8)
    pairs = list(zip([p for r in rollouts for p in r.paths], [p for r in again for p in r.paths]))
    assert all(a.tolist() == b.tolist() for a, b in pairs)
    assert first.SPL.tolist() == second.SPL.tolist()
    assert len({tuple(a) for a, _ in pairs}) > len(pairs) / 2              # it does go somewhere


def test_the_same_seed_learns_the_same_bits(bench, vocabulary):
    def learn(seed):
        policy, env = small_policy(bench, vocabulary, seed), Environment(bench.world)
        imitation = Imitation(policy, env, batch_of(bench.world, bench.splits['train'], vocabulary), ImitationConfig(updates=4, batch=16, checks=1),
                              horizon=8, rng=np.random.default_rng(seed), generator=torch.Generator().manual_seed(seed))
        for _ in range(4): imitation.update()
        return torch.cat([p.detach().flatten() for p in policy.parameters()])
    assert torch.equal(learn(1), learn(1)) and not torch.equal(learn(1), learn(2))


def test_batches_do_not_change_what_an_agent_does(bench, vocabulary):
    policy, env, tasks = small_policy(bench, vocabulary), Environment(bench.world), [e.task for e in bench.splits['val_seen']]
    whole, parts = (run_episodes(policy, env, tasks, vocabulary, horizon=8, batch=size) for size in (len(tasks), 5))
    assert [p.tolist() for r in whole for p in r.paths] == [p.tolist() for r in parts for p in r.paths]


def test_sentences_without_a_known_word_still_get_an_answer(bench, vocabulary):
    policy, env = small_policy(bench, vocabulary), Environment(bench.world)
    start = bench.splits['val_seen'][0].task
    tasks = [dataclasses.replace(start, text=text) for text in ('qwertz', '走吧', '...', 'go ' * 500)]
    done = run_episodes(policy, env, tasks, vocabulary, horizon=4)[0]
    assert torch.isfinite(done.probability).all() and len(done.paths) == 4


def test_without_objects_nothing_is_seen(bench):
    env = Environment(bench.world, objects=False)
    assert not env.label.any() and not env.weight.any()
    with pytest.raises(ValueError, match='far'): Environment(bench.world, far=True)


def test_a_demonstration_off_the_graph_is_refused_by_name(bench, vocabulary):
    episode = bench.splits['train'][0]
    broken = dataclasses.replace(episode, path=(episode.path[0], bench.splits['val_unseen'][0].path[0]))
    with pytest.raises(ValueError, match=f'episode {episode.task.id}.*no edge'): batch_of(bench.world, [broken], vocabulary)


def test_a_loss_that_is_not_finite_stops_training_and_says_where(bench, vocabulary):
    policy, data = small_policy(bench, vocabulary), batch_of(bench.world, bench.splits['train'], vocabulary)
    with torch.no_grad(): policy.want.weight.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match='update 1'):
        Imitation(policy, Environment(bench.world), Batch(*data), ImitationConfig(updates=2, checks=1, student=0), horizon=8,
                  rng=np.random.default_rng(0), generator=torch.Generator()).update()


def test_sanity_agents_frame_every_split(bench):
    for split, episodes in bench.named('val').items():
        best = results(bench.world, episodes, shortest_paths(bench.world, episodes), agent='shortest path', split=split)
        chance = results(bench.world, episodes, random_heading(bench.world, episodes, rng=np.random.default_rng(0)), agent='random heading', split=split)
        assert best.SR.eq(1).all() and np.allclose(best.SPL, 1) and chance.SR.mean() < 0.5
