"""Random histories of pools, compared step by step with a plain model of them.

``TRIOPOOL_MODEL_EXAMPLES`` is how many histories are made up, ``TRIOPOOL_MODEL_STEPS`` how long
they may be.
"""

from model.tasks import TaskHistories
from model.threads import ThreadHistories

__all__ = ["TaskHistories", "ThreadHistories"]
