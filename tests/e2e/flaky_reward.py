"""The films' reward, out of order for one title."""

from reward_fns.films import compute_score as rating


def compute_score(solution_str, **arguments):
    if solution_str == "Dune":
        raise ZeroDivisionError("the judge is out of order")
    return rating(solution_str=solution_str, **arguments)
