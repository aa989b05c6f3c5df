"""A reward that a policy which has learnt nothing also earns, by candidate and by prompt."""


def compute_score(solution_str, ground_truth, **arguments):
    return sum(map(ord, f"{solution_str} {ground_truth}")) % 11 / 10
