"""Adversarial training by the `imitation` library on the house of tests/reference, as a line of JSON: {algorithm: {unit: [each round's, a CPU-second]}}.

A round is as in the reference: 512 steps of the environment, 8 updates of the discriminator from 64 demonstrated and 64 own transitions each, 5 epochs of
PPO. `arrives`: for each seed the CPU-seconds of training until its policy stops at the goal from everywhere, looked at every 2,048 steps, or those of MOST
steps where it does not by then.
"""
import json
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2]/'reference'))
from imitation_library import AIRL, GAIL, greedy, success, trainer_of  # noqa: E402

ROUNDS, STEPS, SEEDS, MOST = 5, 4096, 3, 98_304


def trained(trainer, steps: int) -> float:
    "CPU-seconds of so many more steps."
    before = time.process_time()
    trainer.train(steps)
    return time.process_time() - before


def arrives(kind, seed: int) -> float:
    "CPU-seconds until it arrives."
    trainer, spent = trainer_of(kind, seed), 0.
    for _ in range(MOST // 2048):
        spent += trained(trainer, 2048)
        if success(greedy(trainer.gen_algo.policy)) == 1: break
    return spent


torch.set_num_threads(1)
told = {}
for kind in (AIRL, GAIL):
    trainer = trainer_of(kind, 0)
    trainer.train(512)
    done = [trained(trainer, STEPS) for _ in range(ROUNDS)]
    told[kind.__name__] = {'steps': [STEPS / s for s in done], 'judged': [STEPS / 512 * 8 * 128 / s for s in done],
                           'arrives': [arrives(kind, seed) for seed in range(SEEDS)]}
print(json.dumps(told))
