"""`houses-v1` is frozen: generator, grammar, splits and sizes. A change that moves these checksums is houses-v2: it gets a new name, and every
result is measured again."""
import pytest

from nl_irl.worlds.houses import checksum, houses

FROZEN = {'tiny': 'b9c4e8c2db753fa017a0cd0505b4a340511d9ea4b036c50fe6745877e303a959',
          'demo': 'b18fea4875f53bd974937b684e849f2de7fdfe27137e3b51436b56a66a9c27ef',
          'full': 'f76df8030a2d7d258839722ccfb47bca7b84d7198d6cb8091438fcb612fa7fbd'}


@pytest.mark.parametrize('preset', FROZEN)
def test_houses_v1_is_frozen(preset): assert checksum(houses(preset)) == FROZEN[preset]
