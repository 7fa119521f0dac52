"""The instruction follower: what it is given, that it turns with the house, and that a seed decides everything."""
import dataclasses
import tomllib

import numpy as np
import pytest
import torch

from nl_irl import imitation
from nl_irl.agents import random_heading, shortest_paths
from nl_irl.benchmarks import load_benchmark, settings
from nl_irl.environment import HEADINGS, Environment, Observation
from nl_irl.evaluation import ablations, judge, results, retold
from nl_irl.batches import Batch, batch_of
from nl_irl.imitation import Imitation, ImitationConfig
from nl_irl.models.policy import Policy, PolicyConfig
from nl_irl.rollout import Questions, run_episodes
from nl_irl.runs import PACKAGE
from nl_irl.text import build_vocabulary
from nl_irl.types import Task
from nl_irl.worlds.mirror import mirror_episodes, with_mirror
from nl_irl.worlds.tables import ROWS


pytestmark = pytest.mark.usefixtures('one_thread')


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
        learner = Imitation(policy, env, batch_of(bench.world, bench.splits['train'], vocabulary), ImitationConfig(updates=4, batch=16, checks=1, horizon=8),
                            rng=np.random.default_rng(seed), generator=torch.Generator().manual_seed(seed))
        for _ in range(4): learner.update()
        return torch.cat([p.detach().flatten() for p in policy.parameters()])
    assert torch.equal(learn(1), learn(1)) and not torch.equal(learn(1), learn(2))


def test_another_number_of_threads_gives_the_same_but_for_rounding(bench, vocabulary):
    def losses(threads):
        torch.set_num_threads(threads)
        learner = Imitation(small_policy(bench, vocabulary), Environment(bench.world), batch_of(bench.world, bench.splits['train'], vocabulary),
                            ImitationConfig(updates=4, batch=16, checks=1, horizon=8, student=0), rng=np.random.default_rng(0),
                            generator=torch.Generator().manual_seed(0))
        return [learner.update()['loss'] for _ in range(4)]
    before = torch.get_num_threads()
    try: assert losses(2) == pytest.approx(losses(1), rel=1e-4) and losses(2) == losses(2)
    finally: torch.set_num_threads(before)


def test_a_mirror_image_scores_as_what_it_mirrors(bench):
    world, episodes = with_mirror(bench.world), bench.splits['val_unseen']
    walks = [np.array(p[:k % 3 + 2]) for k, p in enumerate(shortest_paths(bench.world, episodes))]                # some stop short
    here = results(world, episodes, walks, agent='a', split='val_unseen')
    there = results(world, mirror_episodes(episodes), [w + len(bench.world.ids) for w in walks], agent='a', split='val_unseen')
    for metric in ('TL', 'SR', 'SPL', 'nDTW'): assert np.allclose(here[metric], there[metric]), metric
    assert 0 < here.SR.mean() < 1


def test_ablations_take_away_what_they_say(bench, vocabulary):
    policy, env, blind = small_policy(bench, vocabulary), Environment(bench.world), Environment(bench.world, objects=False)
    episodes = bench.splits['val_unseen']
    found = ablations(policy, env, blind, episodes, vocabulary, split='val_unseen', horizon=8, rng=np.random.default_rng(0))
    alone = lambda where, texts: judge(policy, where, [retold(e, t) for e, t in zip(episodes, texts)], vocabulary, agent='a', split='a', horizon=8)[0]
    assert found[found.agent == 'objects zeroed'].TL.tolist() == alone(blind, [e.task.text for e in episodes]).TL.tolist()
    assert found[found.agent == 'no instructions'].TL.tolist() == alone(env, ['' for _ in episodes]).TL.tolist()
    assert len(found) == 3 * len(episodes) and found.groupby('agent').TL.sum().nunique() == 3


def test_student_forcing_teaches_what_cloning_alone_does_not(bench, vocabulary):
    "On the way that it went wrong, an agent is told the way back: steps off the demonstration enter the loss only with a share of student forcing."
    env, data = Environment(bench.world), batch_of(bench.world, bench.splits['train'], vocabulary)
    def astray(share):
        learner = Imitation(small_policy(bench, vocabulary), env, data, ImitationConfig(updates=3, batch=16, checks=1, student=share, horizon=8),
                            rng=np.random.default_rng(0), generator=torch.Generator().manual_seed(0))
        seen = []
        loss = imitation.imitation_loss
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(imitation, 'imitation_loss', lambda policy, env, batch: (seen.append(batch), loss(policy, env, batch))[1])
            for _ in range(3): learner.update()
        return [not torch.equal(b.action.where(b.target >= 0, -1), b.target) for b in seen]
    assert not any(astray(0.)) and all(astray(1.))


@pytest.mark.parametrize('world, preset', [(path.stem, preset) for path in sorted((PACKAGE/'settings').glob('*.toml'))
                                           for preset in tomllib.loads(path.read_text(encoding='utf-8'))])
def test_settings_name_what_there_is(world, preset):
    found = settings(world, preset)
    assert PolicyConfig(words=9, labels=9, **found.policy).width > 0 and found.imitation.checks > 0 and found.horizon > 0


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
        Imitation(policy, Environment(bench.world), Batch(*data), ImitationConfig(updates=2, checks=1, student=0),
                  rng=np.random.default_rng(0), generator=torch.Generator()).update()


def test_sanity_agents_frame_every_split(bench):
    for split, episodes in bench.named('val').items():
        best = results(bench.world, episodes, shortest_paths(bench.world, episodes), agent='shortest path', split=split)
        chance = results(bench.world, episodes, random_heading(bench.world, episodes, rng=np.random.default_rng(0)), agent='random heading', split=split)
        assert best.SR.eq(1).all() and np.allclose(best.SPL, 1) and chance.SR.mean() < 0.5
