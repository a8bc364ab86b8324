"""Jobs that ask for a sum with those that run at the same time; needs no jax."""

from work import run as run_alone

WORK = "asking:run"
GROUPS: list[list[int]] = []


def run(root, payload, report, share=lambda number: number):
    """Ask for what `adds` names, report, and then do what the payload says."""
    for number in payload.get("adds", ()):
        report("asking", number, 10, float(share(number)))
    run_alone(root, payload, report)


def together(requests, sharing, tell):
    """The sum of all requests for each of them, but an error for those below zero; what is over 100 ends it all."""
    GROUPS.append(list(requests))
    tell(f"{sharing.how} of chunks of {sharing.chunk}.")
    if max(requests) > 100:
        raise KeyboardInterrupt
    return [ValueError("below zero") if number < 0 else sum(requests) for number in requests]
