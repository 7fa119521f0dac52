"""Rewards of routes: what competes, what is told apart, how they are appraised, and how a run gives them back."""

import json
import math

import numpy as np
import pytest
import torch

from nl_irl.appraisal import appraise, demonstration_pairs, ends_of, gone_on, other_instructions, other_routes
from nl_irl.batches import batch_of
from nl_irl.benchmarks import load_benchmark
from nl_irl.environment import Environment
from nl_irl.learned import keep, load, open_run
from nl_irl.models.policy import Policy, PolicyConfig
from nl_irl.models.reward import RouteReward
from nl_irl.planning import by_policy, by_reward, choose, guided, rescored
from nl_irl.rollout import questions, run_episodes
from nl_irl.route_irl import RouteIRL, RouteIRLConfig, contest, route_losses
from nl_irl.routes import shortest_routes
from nl_irl.runs import Recording, Run, finish
from nl_irl.text import build_vocabulary
from nl_irl.worlds.tables import distance_between


@pytest.fixture(scope='module')
def bench(): return load_benchmark('houses', preset='tiny')


@pytest.fixture(scope='module')
def parts(bench):
    "Environment, vocabulary, whole routes with their sentences, as episodes and as arrays, and the sizes of small networks."
    episodes = [e for e in bench.splits['train'] if e.level != 'segment']
    vocabulary = build_vocabulary(e.task.text for e in episodes)
    sizes = PolicyConfig(words=len(vocabulary), labels=len(bench.world.labels), width=24, word_width=16, label_width=12, landmark_width=8)
    return Environment(bench.world), vocabulary, episodes, batch_of(bench.world, episodes, vocabulary), sizes


def network(kind, sizes, seed=0):
    torch.manual_seed(seed)
    return kind(sizes)


def test_no_rival_ends_where_the_demonstration_ends(bench, parts):
    world, data = bench.world, parts[3]
    met = contest(world, data, RouteIRLConfig(), rng=np.random.default_rng(0))
    goal = data.viewpoint[np.arange(len(data.tokens)), (data.target >= 0).sum(1) - 1].numpy()
    assert (distance_between(world, met.routes.viewpoint[met.rival], goal[met.routes.question[met.rival]]) >= 3).all()
    assert (met.routes.viewpoint[met.mine] == goal).all() and (met.routes.viewpoint[met.other] == goal[met.pair]).all()
    assert (met.routes.question[met.other] != met.pair).all() and np.bincount(met.routes.question[met.rival[met.sort == 0]]).max() <= RouteIRLConfig().rivals


def test_all_rivals_weigh_as_much_as_a_few_that_stand_for_them(bench, parts):
    world, data = bench.world, parts[3]
    every, few = (contest(world, data, RouteIRLConfig(rivals=n), rng=np.random.default_rng(0)) for n in (10_000, 4))
    total = lambda met: np.bincount(met.routes.question[met.rival[met.sort == 0]], np.exp(met.odds[met.sort == 0]))
    assert np.allclose(total(every), total(few)) and len(few.routes.depth) < len(every.routes.depth)


def test_a_positive_without_weight_teaches_nothing(parts):
    env, _, _, data, sizes = parts
    data, kind = type(data)(*(x[:8] for x in data)), np.array([0, 2] * 4)
    met = contest(env.world, data, RouteIRLConfig(), rng=np.random.default_rng(0))
    judged = torch.randn(len(met.routes.depth), requires_grad=True)
    terms, _ = route_losses(judged, met, RouteIRLConfig(relabelled=0.).weights[kind], RouteIRLConfig())
    slope, = torch.autograd.grad(sum(terms.values()), judged)
    assert (slope[torch.as_tensor(met.mine[kind == 2])] == 0).all() and (slope[torch.as_tensor(met.mine[kind == 0])] < 0).all()


def test_a_learner_that_samples_its_policy_resumes_with_the_same_bits(parts):
    env, _, _, data, sizes = parts
    def learner(seed): return RouteIRL(network(RouteReward, sizes, seed), env, data, RouteIRLConfig(updates=6, houses=2), policy=network(Policy, sizes),
                                       rng=np.random.default_rng(seed), generator=torch.Generator().manual_seed(seed))
    whole, begun, goes_on = learner(0), learner(0), learner(1)
    torch.manual_seed(5)
    for _ in range(4): whole.update()
    torch.manual_seed(5)
    for _ in range(2): begun.update()
    goes_on.load_state_dict(begun.state_dict())
    for _ in range(2): goes_on.update()
    assert all(torch.equal(a, b) for a, b in zip(whole.reward.state_dict().values(), goes_on.reward.state_dict().values()))


@pytest.mark.parametrize('one', [True, False])
def test_a_single_demonstration_and_unknown_words_work(one, bench, parts):
    env, vocabulary, episodes, data, sizes = parts
    data = type(data)(*(x[:1] for x in data)) if one else data._replace(tokens=torch.ones_like(data.tokens[:, :3]))
    told = RouteIRL(network(RouteReward, sizes), env, data, RouteIRLConfig(updates=1), rng=np.random.default_rng(0)).update()
    assert all(map(math.isfinite, told.values()))


def test_without_demonstrations_it_says_so(parts):
    env, _, _, data, sizes = parts
    with pytest.raises(ValueError, match='no demonstration'):
        RouteIRL(network(RouteReward, sizes), env, type(data)(*(x[:0] for x in data)), RouteIRLConfig(), rng=np.random.default_rng(0))


def test_numbers_that_are_none_name_term_and_update(parts):
    env, _, _, data, sizes = parts
    learner = RouteIRL(network(RouteReward, sizes), env, data, RouteIRLConfig(updates=2), rng=np.random.default_rng(0))
    learner.update()
    with torch.no_grad(): learner.reward.judge[-1].bias.fill_(float('nan'))
    with pytest.raises(FloatingPointError, match='route loss is nan at update 2'): learner.update()


# %% planning

def test_of_two_minds_the_second_is_asked_about_the_best_alone(bench, parts):
    env, vocabulary, episodes, _, sizes = parts
    reward, policy = network(RouteReward, sizes), network(Policy, sizes)
    asked = questions(env, [e.task for e in episodes[:12]], vocabulary)
    routes = shortest_routes(bench.world, asked.start, asked.heading, moves=7)
    one, other, seen = by_reward(reward, env), by_policy(policy, env), []
    def counted(tokens, some):
        seen.append(len(some.depth))
        return other(tokens, some)
    with torch.no_grad():
        both = rescored(one, counted, weight=.5, count=5)(asked.tokens, routes).numpy()
        whole = (one(asked.tokens, routes) + .5 * other(asked.tokens, routes)).numpy()
    assert np.isfinite(both).sum() == 5 * 12 and seen[0] < len(routes.depth) / 2
    assert np.allclose(both[np.isfinite(both)], whole[np.isfinite(both)], atol=1e-4)
    paths = choose(rescored(one, other, weight=0.), bench.world, asked, moves=7)
    assert all(np.array_equal(a, b) for a, b in zip(paths, choose(one, bench.world, asked, moves=7)))


@pytest.mark.parametrize('lookahead', [False, True])
def test_a_guided_walk_goes_along_edges_and_ends_in_time(lookahead, bench, parts):
    _, vocabulary, episodes, _, sizes = parts
    env = Environment(bench.world, lookahead=lookahead)
    policy = network(Policy, PolicyConfig(**{**sizes.__dict__, 'lookahead': lookahead}))
    asked = questions(env, [e.task for e in episodes[:20]], vocabulary)
    for path in guided(policy, by_reward(network(RouteReward, sizes), env), env, asked, weight=.5, horizon=6):
        assert len(path) <= 7 and all(b in bench.world.neighbor[a] for a, b in zip(path, path[1:]))


# %% appraisal

def test_wrong_pairs_are_wrong(bench, parts):
    world, episodes = bench.world, parts[2]
    shown, rng = demonstration_pairs(world, episodes), np.random.default_rng(0)
    goal = np.array([world.index[e.goal] for e in episodes])
    for walked in (other_instructions(world, shown, rng=rng), other_routes(world, shown, moves=7, rng=rng), gone_on(world, shown, rng=rng)):
        assert len(walked.told) and (distance_between(world, ends_of(walked), goal[walked.told]) >= 3).all()


def test_a_random_reward_tells_nothing_apart(bench, parts):
    env, vocabulary, episodes, _, sizes = parts
    tried = run_episodes(network(Policy, sizes), env, [e.task for e in episodes], vocabulary, horizon=8, generator=torch.Generator().manual_seed(0))
    noise = torch.Generator().manual_seed(0)
    numbers, rewards = appraise(lambda tokens, routes: torch.randn(len(routes.depth), generator=noise), env, episodes, vocabulary, tried, moves=7,
                                rng=np.random.default_rng(0))
    assert all(.35 < value < .65 for name, value in numbers.items() if name.startswith('auc'))
    assert set(rewards.kind) == {'demonstration', 'another instruction', 'another route', 'cut short', 'gone on', 'policy'}
    assert rewards[rewards.kind == 'policy'].truth.isin([0, 1]).all()


# %% what a run keeps

@pytest.fixture
def run(tmp_path, bench, parts):
    from nl_irl.worlds.tables import checksum
    env, vocabulary, _, _, sizes = parts
    run = Recording.create(tmp_path/'run', {'world': 'houses', 'preset': 'tiny'}, data={bench.world.name: checksum(bench.world)}, settings={})
    keep(run, vocabulary, policy=network(Policy, sizes), reward=network(RouteReward, sizes))
    return finish(run)


def test_a_run_gives_back_what_it_kept(run, bench, parts):
    found = open_run(run)
    assert set(found.networks) == {'policy', 'reward'} and found.vocabulary == parts[1]
    assert all(torch.equal(a, b) for a, b in zip(found.network('reward').state_dict().values(), network(RouteReward, parts[4]).state_dict().values()))
    with pytest.raises(ValueError, match='keeps no generator; it has policy, reward'): found.network('generator')


@pytest.mark.parametrize('change', [{'config': {'words': 3}}, {'config': {'nonsense': 1}}, {'words': ['a']}, {'config': None}])
def test_what_is_kept_is_checked(change, tmp_path, parts):
    run = Recording.create(tmp_path/'run', {'world': 'houses', 'preset': 'tiny'})
    keep(run, parts[1], policy=network(Policy, parts[4]))
    path = run.folder/'checkpoints'/'policy.json'
    about = json.loads(path.read_text())
    for name, value in change.items(): about['facts'][name] = value if not isinstance(value, dict) else about['facts'][name] | value
    path.write_text(json.dumps(about))
    with pytest.raises(ValueError, match='checkpoints/policy: not what this version keeps'): load(run, 'policy')


def test_another_world_is_refused(run):
    config = json.loads((run.folder/'config.json').read_text())
    changed = Run(run.folder, config | {'data': {name: '0' * 64 for name in config['data']}})
    with pytest.raises(ValueError, match='learned in a world'): open_run(changed)
