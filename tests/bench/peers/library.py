"""Adversarial training by the `imitation` library on the house of tests/reference, as a line of JSON: {algorithm: {unit: [each round's, a CPU-second]}}.

A round is as in the reference: 512 steps of the environment, 8 updates of the discriminator from 64 demonstrated and 64 own transitions each, 5 epochs of
PPO.
"""
import json
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2]/'reference'))
from imitation_library import AIRL, GAIL, trainer_of  # noqa: E402

ROUNDS, STEPS = 5, 4096

torch.set_num_threads(1)
told = {}
for kind in (AIRL, GAIL):
    trainer, done = trainer_of(kind, 0), []
    trainer.train(512)
    for _ in range(ROUNDS):
        before = time.process_time()
        trainer.train(STEPS)
        done.append(time.process_time() - before)
    told[kind.__name__] = {'steps': [STEPS / s for s in done], 'judged': [STEPS / 512 * 8 * 128 / s for s in done]}
print(json.dumps(told))
