"""Sets of classes written a second time, from the papers: plain Python, one example at a time, exact ranks."""

from fractions import Fraction


def above(probs, c):
    return [p for p in probs if p > probs[c]]


def tied(probs, c):
    return [p for p in probs if p == probs[c]]


def score(kind, probs, c, chance=1.0, settings=()):
    """How little class c conforms."""
    rank = len(above(probs, c)) + len(tied(probs, c))
    if kind == "lac":
        return 1 - probs[c]
    if kind == "top_k":
        return rank
    cumulated = sum(sorted(above(probs, c), reverse=True)) + chance * sum(tied(probs, c))
    if kind == "aps":
        return cumulated
    if kind == "raps":
        return cumulated + settings[1] * max(rank - settings[0], 0)
    if kind == "saps":
        return chance * max(probs) if probs[c] == max(probs) else max(probs) + settings[0] * (rank - 2 + chance)
    raise KeyError(kind)


def order_statistic(scores, level):
    """The score number ⌈(n + 1) level⌉, None for infinity."""
    exact = (len(scores) + 1) * Fraction(str(level))
    k = -(-exact.numerator // exact.denominator)
    return sorted(scores)[k - 1] if k <= len(scores) else None


def sets(kind, calibration, labels, tests, level, settings=(), allow_empty=False):
    """Sets of labels, deterministic."""
    bound = order_statistic(
        [score(kind, list(p), y, 1.0, settings) for p, y in zip(calibration, labels, strict=True)], level
    )
    return [one(kind, list(probs), bound, settings, allow_empty) for probs in tests]


def one(kind, probs, bound, settings, allow_empty):
    found = set()
    for c in range(len(probs)):
        if (
            bound is None
            or score(kind, probs, c, 1.0, settings) <= bound
            or (not allow_empty and probs[c] == max(probs))
        ):
            found.add(c)
    return found
