"""ShapE-GRPO in TRL; needs the extra ``trl``."""

from shape_grpo.trl.rollouts import RolloutsTrainer
from shape_grpo.trl.trainer import ShapEGRPOTrainer

__all__ = ["RolloutsTrainer", "ShapEGRPOTrainer"]
