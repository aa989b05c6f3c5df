"""What a reward function's failure costs, and what is said of it; the same in every trainer."""

import logging
import traceback

logger = logging.getLogger(__name__)


class FailureLog:
    """Turns failures into tracebacks, and logs the first of each kind.

    Args:
        on_error: As in `shape_grpo.config.ShapeGRPOConfig`; what the log says of it.
    """

    def __init__(self, on_error: str) -> None:
        self.on_error = on_error
        self._logged: set[type] = set()

    def traceback(self, error: Exception) -> str:
        """The failure's traceback, which stands in the place of the candidate's reward."""
        failure = "".join(traceback.format_exception(error))
        if type(error) not in self._logged:
            self._logged.add(type(error))
            logger.error(
                "A reward function failed; the candidate %s. Further failures of this kind are "
                "counted in shape_grpo/reward_errors and not logged.\n%s",
                "leaves its set" if self.on_error == "skip" else "ends the run",
                failure,
            )
        return failure
