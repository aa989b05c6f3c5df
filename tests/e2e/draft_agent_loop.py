"""An agent loop of several outputs: every other rollout writes a draft before its answer."""

from itertools import count

from verl.experimental.agent_loop.single_turn_agent_loop import SingleTurnAgentLoop

ROLLOUTS = count()


class DraftAgentLoop(SingleTurnAgentLoop):
    async def run(self, sampling_params, **kwargs):
        has_draft = next(ROLLOUTS) % 2
        answer = await super().run(sampling_params, **kwargs)
        if not has_draft:
            return answer
        draft = await super().run(sampling_params, **kwargs)
        draft.extra_fields["is_draft"] = True
        return [draft, answer]
