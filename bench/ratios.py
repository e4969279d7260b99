"""The ratio of two programs that ran by turns."""

import random
import statistics


def ratio(ours: list[float], theirs: list[float]) -> str:
    """The median of the rounds' ratios, and where 90 % of those lie that resampled
    rounds give."""
    ratios = [one / other for one, other in zip(ours, theirs)]
    chance = random.Random(1)
    again = sorted(statistics.median(chance.choices(ratios, k=len(ratios)))
                   for _ in range(2000))
    return (f"{statistics.median(ratios):6.3f} [{again[len(again) // 20]:.3f} .. "
            f"{again[-len(again) // 20]:.3f}]")
