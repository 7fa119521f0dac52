"""What the `imitation` library makes of the house in house.json: success of its BC, GAIL and AIRL, and the rewards that the last two learn.

Run by hand, in an environment of its own: pip install imitation==1.0.1, then python imitation_library.py, which writes imitation_library.json beside it.
States are one-hot viewpoints and one more for having stopped, so that all episodes have one length, as the library wants them. Action 0 is STOP, action
k the k-th neighbour in order; what is not there leads nowhere.
"""
import json
from importlib.metadata import version
from pathlib import Path
from tempfile import mkdtemp

import gymnasium as gym
import numpy as np
import torch
from imitation.algorithms import bc
from imitation.algorithms.adversarial.airl import AIRL
from imitation.algorithms.adversarial.gail import GAIL
from imitation.data.types import Trajectory
from imitation.rewards.reward_nets import BasicRewardNet
from imitation.util.logger import configure
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv

HERE = Path(__file__).parent
HOUSE = json.loads((HERE/'house.json').read_text())
GOAL, HORIZON = HOUSE['goal'], HOUSE['horizon']
PLACES = 1 + max(max(e) for e in HOUSE['edges'])
NEIGHBORS = [sorted({b for a, b in [*HOUSE['edges'], *(e[::-1] for e in HOUSE['edges'])] if a == place}) for place in range(PLACES)]
ACTIONS, STOPPED = 1 + max(map(len, NEIGHBORS)), PLACES


def then(place: int, action: int) -> int:
    "Where `action` leads."
    if place == STOPPED or action == 0: return STOPPED
    return NEIGHBORS[place][action - 1] if action <= len(NEIGHBORS[place]) else place


def towards() -> list[int]:
    "The demonstrator's action at each place: to the first neighbour that is nearest to the goal, and STOP there."
    far = np.where(np.arange(PLACES) == GOAL, 0, 99)
    for _ in range(PLACES): far = np.minimum(far, [1 + min(far[n] for n in NEIGHBORS[p]) for p in range(PLACES)])
    return [0 if p == GOAL else 1 + int(np.argmin([far[n] for n in NEIGHBORS[p]])) for p in range(PLACES)]


class House(gym.Env):
    "Episodes of HORIZON steps from any place but the goal; nothing is paid."
    observation_space, action_space = gym.spaces.Box(0, 1, (PLACES + 1,), np.float32), gym.spaces.Discrete(ACTIONS)

    def see(self) -> np.ndarray: return np.eye(PLACES + 1, dtype=np.float32)[self.place]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.time = int(self.np_random.choice([p for p in range(PLACES) if p != GOAL])), 0
        return self.see(), {}

    def step(self, action):
        self.place, self.time = then(self.place, int(action)), self.time + 1
        return self.see(), 0., False, self.time == HORIZON, {}


def demonstrations() -> list[Trajectory]:
    "One from every place."
    expert, made = [*towards(), 0], []
    for start in range(PLACES):
        if start == GOAL: continue
        places = [start]
        for _ in range(HORIZON): places.append(then(places[-1], expert[places[-1]]))
        made.append(Trajectory(obs=np.eye(PLACES + 1, dtype=np.float32)[places], acts=np.array([expert[p] for p in places[:-1]]), infos=None, terminal=False))
    return made


def stops_at(act, place: int) -> int:
    "Where `act` stops; -1 if it never does."
    for _ in range(HORIZON):
        action = act(place)
        if action == 0: return place
        place = then(place, action)
    return -1


def success(act) -> float:
    "The share of starts from which `act` (place -> action) stops at the goal."
    return float(np.mean([stops_at(act, start) == GOAL for start in range(PLACES) if start != GOAL]))


def greedy(policy):
    "place -> its likeliest action."
    return lambda place: int(policy.predict(np.eye(PLACES + 1, dtype=np.float32)[place], deterministic=True)[0])


def trainer_of(kind, seed: int):
    "What trains `kind` in the house."
    torch.manual_seed(seed)
    venv = DummyVecEnv([lambda: gym.wrappers.TimeLimit(House(), HORIZON) for _ in range(16)])
    venv.seed(seed)
    net = BasicRewardNet(venv.observation_space, venv.action_space, hid_sizes=(64,))
    ppo = PPO('MlpPolicy', venv, n_steps=32, batch_size=256, n_epochs=5, ent_coef=.01, learning_rate=2e-3, gamma=.95, seed=seed)
    return kind(demonstrations=demonstrations(), demo_batch_size=64, venv=venv, gen_algo=ppo, reward_net=net, n_disc_updates_per_round=8,
                disc_opt_kwargs={'lr': 3e-3}, allow_variable_horizon=False, custom_logger=configure(mkdtemp(), ['csv']))


def adversarial(kind, seed: int, steps: int = 100_000):
    "The policy and the rewards (place, action) that `kind` learns."
    trainer = trainer_of(kind, seed)
    trainer.train(steps)
    place, action = (x.ravel() for x in np.meshgrid(range(PLACES), range(ACTIONS), indexing='ij'))
    see = lambda places: np.eye(PLACES + 1, dtype=np.float32)[places]
    after = np.array([then(p, a) for p, a in zip(place, action)])
    reward = trainer.reward_train.predict_processed(see(place), action, see(after), np.zeros(len(place), bool))
    return trainer.gen_algo.policy, reward.reshape(PLACES, ACTIONS)


def main() -> None:
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    cloner = bc.BC(observation_space=House.observation_space, action_space=House.action_space, demonstrations=demonstrations(),
                   rng=rng, custom_logger=configure(mkdtemp(), ['csv']))
    cloner.train(n_epochs=400, progress_bar=False)
    by_chance = [success(lambda place: int(rng.integers(1 + len(NEIGHBORS[place])))) for _ in range(200)]
    found = {'success': {'random': float(np.mean(by_chance)), 'bc': success(greedy(cloner.policy))}, 'reward': {}}
    for name, kind in (('gail', GAIL), ('airl', AIRL)):
        policies, rewards = zip(*(adversarial(kind, seed) for seed in range(3)))
        found['success'][name] = float(np.mean([success(greedy(p)) for p in policies]))
        found['reward'][name] = np.mean(rewards, 0).round(4).tolist()
    about = {'versions': {name: version(name) for name in ('imitation', 'stable-baselines3', 'torch', 'numpy')}, 'expert': towards(), 'neighbors': NEIGHBORS}
    (HERE/'imitation_library.json').write_text(json.dumps(about | found, indent=1) + '\n')
    print(json.dumps(found['success']))


if __name__ == '__main__': main()
