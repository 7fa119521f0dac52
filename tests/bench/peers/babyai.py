"""Environment steps a CPU-second of minigrid's BabyAI, in one thread, as a line of JSON: {level: {environments: [each round's]}}.

Actions are turns and steps forward by chance; each observation is the field of view, the direction and the mission, as an agent gets them.
"""
import json
import time
from functools import partial

import gymnasium as gym
import minigrid  # noqa: F401, registers its environments
import numpy as np

LEVELS, STEPS, ROUNDS = ('BabyAI-GoToLocal-v0', 'BabyAI-BossLevel-v0'), 2000, 5


def rates(env, count: int, steps: int, draw) -> list[float]:
    "Steps of all `count` environments a CPU-second, in each round of `steps` steps."
    env.reset(seed=0)
    found = []
    for _ in range(ROUNDS):
        actions, before = [draw() for _ in range(steps)], time.process_time()
        for action in actions:
            _, _, ended, cut, _ = env.step(action)
            if count == 1 and (ended or cut): env.reset()
        found.append(count * steps / (time.process_time() - before))
    return found


rng, told = np.random.default_rng(0), {}
for level in LEVELS:
    told[level] = {1: rates(gym.make(level), 1, STEPS, lambda: int(rng.integers(3)))}
    for many in (64, 1024):
        together = gym.vector.SyncVectorEnv([partial(gym.make, level)] * many)
        told[level][many] = rates(together, many, max(STEPS // many, 2), lambda many=many: rng.integers(3, size=many))
print(json.dumps(told))
