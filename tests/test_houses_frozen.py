"""`houses-v1` is frozen: generator, grammar, splits and sizes. A change that moves these checksums is houses-v2: it gets a new name, and every
result is measured again."""
import pytest

from nl_irl.worlds.houses import houses, houses_checksum

FROZEN = {'tiny': 'b9c4e8c2db753fa017a0cd0505b4a340511d9ea4b036c50fe6745877e303a959',
          'demo': 'a6951739823ea3c90078ed417c037c7d71a3a5ce976e25719561de93797f3f8d',
          'full': 'f76df8030a2d7d258839722ccfb47bca7b84d7198d6cb8091438fcb612fa7fbd'}


@pytest.mark.parametrize('preset', FROZEN)
def test_houses_v1_is_frozen_and_true(preset):
    data = houses(preset)
    assert houses_checksum(data) == FROZEN[preset]
    untrue = [e.task.id for episodes in data.splits.values() for e in episodes if not data.fulfils(e, e.path)]
    assert not untrue, f'demonstrations that do not do what they say: {untrue}'
