"Gymnasium: its own checker with warnings as errors, the vector environment against the single one, and the answer kept out of what agents get."

import dataclasses
import subprocess
import sys
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.vector import AutoresetMode

import nl_irl.gym
from nl_irl.environment import Environment
from nl_irl.gym import NavigationEnv, NavigationVectorEnv, Progress
from nl_irl.metrics import pad
from nl_irl.scoring import score_rows
from nl_irl.types import Episode, Task

FIELDS = {'instruction', 'label', 'weight', 'heading', 'candidate', 'direction', 'open'}
INFOS = {'action_mask', 'task', 'viewpoint'}


class Vectors:
    "A text encoder that gives vectors."
    def encode(self, texts, length=None):
        longest = min(max(len(t.split()) for t in texts), length or 99)
        table = np.zeros((len(texts), longest, 3), np.float32)
        for row, t in zip(table, texts):
            for k, word in enumerate(t.split()[:longest]): row[k] = len(word), ord(word[0]) - 96, 1
        return table


@pytest.fixture(scope='module')
def tiny():
    "The tiny houses: their world, their episodes by split, the vocabulary of train."
    return nl_irl.gym.source('houses', 'tiny', None)


@pytest.fixture
def strict():
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        yield


def made(tiny, kind, **options):
    "Arguments of an environment in one of several worlds' ways to be given."
    world, split, vocabulary = tiny
    features = np.random.default_rng(0).normal(size=(len(world.ids), 12, 5)).astype(np.float16) if kind == 'features' else None
    encoder = {'text': None, 'vectors': Vectors()}.get(kind, vocabulary)
    return dict(env=Environment(world, objects=kind != 'no objects', features=features), episodes=split('val_seen'), encoder=encoder, **options)


KINDS = ('text', 'numbers', 'vectors', 'features', 'no objects')


@pytest.mark.parametrize('kind', KINDS)
def test_checker_has_nothing_to_say(tiny, strict, kind):
    check_env(NavigationEnv(**made(tiny, kind)), skip_render_check=True)       # a raw environment has no spec to render from
    check_env(gymnasium.make('nl_irl/Navigation-v1', **made(tiny, kind)).unwrapped)


@pytest.mark.parametrize('text', [True, False])
def test_checker_on_registered_houses(strict, text):
    check_env(gymnasium.make('nl_irl/Houses-v1', preset='tiny', text=text).unwrapped)


@pytest.mark.r2r
@pytest.mark.parametrize('options', [{}, dict(text=True, split='val_unseen', far=True)])
def test_checker_on_room_to_room(strict, options):
    check_env(gymnasium.make('nl_irl/RoomToRoom-v1', **options).unwrapped)


@pytest.mark.parametrize('kind', KINDS)
def test_whole_episodes_stay_in_their_spaces(tiny, strict, kind):
    "`gymnasium.make` puts the passive checker around the environment; the vector environment is asked directly."
    one = gymnasium.make('nl_irl/Navigation-v1', horizon=6, **made(tiny, kind))
    many = gymnasium.make_vec('nl_irl/Navigation-v1', num_envs=5, vectorization_mode='vector_entry_point', horizon=6, **made(tiny, kind))
    assert isinstance(many, NavigationVectorEnv) and many.metadata['autoreset_mode'] is AutoresetMode.NEXT_STEP
    one.action_space.seed(0); many.action_space.seed(0)
    one.reset(seed=0)
    assert many.reset(seed=0)[0] in many.observation_space
    for _ in range(60):
        if any(one.step(one.action_space.sample())[2:4]): one.reset()
        seen, reward, terminated, truncated, _ = many.step(many.action_space.sample())
        assert seen in many.observation_space and reward.dtype == np.float64 and terminated.dtype == truncated.dtype == bool


@pytest.mark.parametrize('kind', KINDS)
def test_spaces_are_the_same_on_every_split(tiny, kind):
    first, *others = (NavigationEnv(**made(tiny, kind) | dict(episodes=tiny[1](s))).observation_space for s in ('train', 'val_seen', 'val_unseen'))
    assert all(first == other for other in others)


@pytest.mark.parametrize('kind', KINDS)
def test_vector_equals_single(tiny, kind):
    "The same actions, closed ones among them, over several episodes: the same observations, rewards, ends and infos, bit for bit."
    n, world = 7, tiny[0]
    many = NavigationVectorEnv(**made(tiny, kind, num_envs=n, horizon=5))
    ones = [NavigationEnv(**made(tiny, kind, horizon=5)) for _ in range(n)]
    rng, over, ends = np.random.default_rng(0), np.zeros(n, bool), np.zeros(3, int)
    seen, about = many.reset(seed=1)
    single = [e.reset(options={'episode': t}) for e, t in zip(ones, about['task'])]
    for _ in range(40):
        for i in range(n):
            assert data_equivalence({k: v[i] for k, v in seen.items()}, single[i][0], exact=True)
            assert {k: v[i] for k, v in about.items() if k[0] == '_'} == dict.fromkeys((f'_{k}' for k in INFOS), True)
            assert data_equivalence({k: v[i] for k, v in about.items() if k[0] != '_'}, single[i][1], exact=True)
        actions = rng.integers(0, 1 + world.neighbor.shape[1], n)
        seen, reward, terminated, truncated, about = many.step(actions)
        for i, e in enumerate(ones):
            if over[i]: single[i], expected = e.reset(options={'episode': about['task'][i]}), (0, False, False)
            else:
                s, *expected, a = e.step(int(actions[i]))
                single[i], expected = (s, a), tuple(expected)
            assert (reward[i], terminated[i], truncated[i]) == expected
        over = terminated | truncated
        ends += terminated.sum(), truncated.sum(), (reward > 0).sum()
    assert (ends > 0).all()


def test_infos_have_the_form_of_gymnasium(tiny):
    "Our infos are those of gymnasium's own vector environment over single ones."
    ours = NavigationVectorEnv(**made(tiny, 'text', num_envs=3)).reset(seed=0)[1]
    theirs = gymnasium.vector.SyncVectorEnv([lambda t=t: NavigationEnv(**made(tiny, 'text')) for t in ours['task']]).reset(seed=0)[1]
    assert set(ours) == set(theirs) and all(ours[k].dtype == theirs[k].dtype and ours[k].shape == theirs[k].shape for k in ours)


def other_answers(world, episodes):
    "The same tasks with answers that end at once."
    return [dataclasses.replace(e, path=e.path[:1], program='', level='goal') for e in episodes]


@pytest.mark.parametrize('kind', KINDS)
def test_nothing_of_the_answer_is_given(tiny, kind):
    "An allow-list of names; and with other answers everything but the reward is the same."
    arguments = made(tiny, kind, num_envs=32, horizon=6)
    a, b = NavigationVectorEnv(**arguments), NavigationVectorEnv(**arguments | dict(episodes=other_answers(tiny[0], arguments['episodes'])))
    rng, differ = np.random.default_rng(0), False
    (seen, about), second = a.reset(seed=0), b.reset(seed=0)
    assert set(seen) == FIELDS | ({'feature'} if kind == 'features' else set())
    assert {k.lstrip('_') for k in about} == INFOS
    assert data_equivalence((seen, about), second, exact=True)
    for _ in range(30):
        actions = rng.integers(0, 4, 32)
        now, then = a.step(actions), b.step(actions)
        assert data_equivalence((now[0], *now[2:]), (then[0], *then[2:]), exact=True)
        differ |= bool((now[1] != then[1]).any())
    assert differ


def test_a_reward_is_given_what_was_done_and_no_more(tiny):
    assert Progress._fields == ('episode', 'viewpoint', 'heading', 'action', 'time', 'ended')
    told = []
    keep = lambda done: told.append(Progress(*(x.clone() for x in done))) or np.arange(4.)
    env = NavigationVectorEnv(**made(tiny, 'text', num_envs=4, horizon=3, reward=keep, order='in turn'))
    places, chosen = [env.reset(seed=0)[1]['viewpoint']], []
    for actions in ([1, 1, 0, 1], [1, 9, 1, 1], [1, 1, 1, 0]):
        _, reward, *_, about = env.step(np.array(actions))
        places.append(about['viewpoint']); chosen.append(actions)
    last, ids = told[-1], env.walk.viewpoint_id
    assert reward.tolist() == [0, 1, 2, 3] and last.episode.tolist() == [0, 1, 4, 3]
    for agent, time in enumerate(last.time.tolist()):
        if agent == 2: continue                                                # has ended and begun anew
        assert time == 3 and ids[last.viewpoint[agent, :4]].tolist() == [p[agent] for p in places]
        assert last.action[agent].tolist() == [c[agent] for c in chosen]
    assert last.ended.tolist() == [True, True, False, True] and last.time[2] == 1
    assert NavigationEnv(**made(tiny, 'text', reward=None)).walk.reward is None


def test_mean_return_is_success_rate(tiny):
    "With the default reward, over every episode once, cut short at the horizon or stopped."
    world, split, _ = tiny
    episodes, rng = split('train'), np.random.default_rng(0)
    n, horizon = len(episodes), 4
    env = NavigationVectorEnv(Environment(world), episodes, num_envs=n, horizon=horizon, order='in turn')
    about = env.reset(seed=0)[1]
    assert about['task'].tolist() == [e.task.id for e in episodes]
    paths, returned, alive = [about['viewpoint']], np.zeros(n), np.ones(n, bool)
    for _ in range(horizon):
        open = about['action_mask'].astype(float) * rng.random(about['action_mask'].shape)
        _, reward, terminated, truncated, about = env.step(open.argmax(1))
        paths.append(np.where(alive, about['viewpoint'], paths[-1]))           # what comes after the end is another episode
        returned += reward * alive
        alive &= ~(terminated | truncated)
    assert not alive.any() and truncated.any()
    frame = score_rows(world, episodes, *pad([world.rows(p) for p in np.stack(paths, 1)]))
    assert (frame.SR.to_numpy() == returned).all() and 0 < returned.mean() < 1


def test_seeds_and_orders(tiny):
    def tasks(seed, **options):
        env = NavigationVectorEnv(**made(tiny, 'text', num_envs=8, **options))
        found = [*env.reset(seed=seed)[1]['task']]
        for _ in range(6): found += [*env.step(np.zeros(8, int))[4]['task']]
        return found, env
    first, again, other = (tasks(s)[0] for s in (0, 0, 1))
    assert first == again != other
    one = NavigationEnv(**made(tiny, 'text'))
    drawn = lambda: [one.reset(seed=s)[1]['task'] for s in (5, None, None, None)]
    assert drawn() == drawn()
    ids = [e.task.id for e in tiny[1]('val_seen')]
    found, env = tasks(0, order='in turn')
    assert list(dict.fromkeys(found)) == ids[:32] and env.reset()[1]['task'].tolist() == ids[:8] == env.reset(seed=3)[1]['task'].tolist()


def test_what_a_user_writes_stays_outside(tiny):
    "Writing into a returned observation changes nothing inside."
    a, b = (NavigationVectorEnv(**made(tiny, 'numbers', num_envs=4)) for _ in range(2))
    seen, _ = a.reset(seed=0)
    assert seen['heading'].all()
    for field in seen.values(): field[:] = 0
    b.reset(seed=0)
    for actions in ([0, 0, 1, 1], [1, 1, 0, 0]):
        now, then = a.step(np.array(actions)), b.step(np.array(actions))
        assert data_equivalence(now, then, exact=True)
        for field in now[0].values(): field[:] = 0


def test_an_action_that_is_not_open_costs_its_time(tiny):
    env = NavigationEnv(**made(tiny, 'text', horizon=2))
    before, about = env.reset(seed=0)
    closed = int(np.flatnonzero(about['action_mask'] == 0)[0])
    after, reward, terminated, truncated, now = env.step(closed)
    assert data_equivalence(before, after, exact=True) and data_equivalence(about, now) and not (reward or terminated or truncated)
    assert env.step(closed)[2:4] == (False, True)


def scored(env, reward):
    "Step with a reward that gives `reward`."
    env.walk.reward = lambda done: reward
    env.step(np.ones(env.num_envs, int))


@pytest.mark.parametrize('act, words', [
    (lambda e, v: e.step(99), 'actions must be 1 of 0 to'),
    (lambda e, v: e.step(-1), 'actions must be 1 of 0 to'),
    (lambda e, v: v.step([1]), 'actions must be 2 of 0 to'),
    (lambda e, v: v.step([[1, 1]]), 'actions must be 2 of 0 to'),
    (lambda e, v: scored(v, np.zeros((2, 1))), 'a reward must be a number an agent'),
    (lambda e, v: e.reset(options={'episode': 'nowhere_0'}), 'no episode has the id'),
    (lambda e, v: e.reset(options={'episodes': 'x'}), "knows the option 'episode'"),
    (lambda e, v: v.reset(options={'episode': ['val_seen-0_0']}), 'must name 2 ids'),
    (lambda e, v: NavigationEnv(e.walk.env, []), 'needs episodes'),
    (lambda e, v: NavigationEnv(e.walk.env, [Episode(e.walk.tasks[0])]), 'pass reward=None'),
    (lambda e, v: NavigationEnv(e.walk.env, [Episode(Task('0_0', 'x', 'nowhere', 0., 'go'))], reward=None), "no viewpoint 'nowhere'"),
    (lambda e, v: gymnasium.make('nl_irl/Houses-v1', preset='tiny', split='nope'), 'no split is named'),
    (lambda e, v: gymnasium.make('nl_irl/Houses-v1', preset='tiny', order='nope'), 'order must be'),
    (lambda e, v: gymnasium.make('nl_irl/Houses-v1', preset='tiny', render_mode='human'), 'render_mode must be')])
def test_errors_say_what_to_do(tiny, act, words):
    one, many = NavigationEnv(**made(tiny, 'text')), NavigationVectorEnv(**made(tiny, 'text', num_envs=2))
    one.reset(seed=0); many.reset(seed=0)
    with pytest.raises(ValueError, match=words): act(one, many)


def test_withheld_answers_do_without_success(tiny):
    env = NavigationEnv(**made(tiny, 'text', reward=None) | dict(episodes=[Episode(e.task) for e in tiny[1]('val_seen')]))
    env.reset(seed=0)
    assert env.step(0)[1:4] == (0, True, False)
    with pytest.raises(ResetNeeded): env.step(0)


def test_the_command_line_starts_without_gymnasium():
    subprocess.run([sys.executable, '-c', "import sys, nl_irl, nl_irl.cli; sys.exit('gymnasium' in sys.modules)"], check=True)
