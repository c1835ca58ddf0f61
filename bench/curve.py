"""W1 from 10^5 to 10^8 cards: durable swipes a second, and bytes of memory a card beside them."""

import statistics

from bench import plots, w1
from bench.machine import lacks
from bench.options import Options, scratch

SIZES = tuple(10**power for power in range(5, 9))


def run(options: Options) -> dict[str, object]:
    """Figures of every size that this machine can hold."""
    curve: list[dict[str, float]] = []
    missing: dict[str, str] = {}
    for cards in SIZES:
        with scratch("room") as directory:
            why = lacks(cards, directory)
        if cards > options.largest:
            why = f"more than --largest {options.largest}"
        if why:
            missing[str(cards)] = why
            continue
        found = w1.measure(cards, options)
        curve.append(
            {
                "cards": cards,
                "swipes_per_s": round(statistics.median(found.rates)),
                "swipes_per_s_min": round(min(found.rates)),
                "swipes_per_s_max": round(max(found.rates)),
                "limit_swipes_per_s": round(statistics.median(found.limits)),
                "memory_bytes_per_card": found.memory_bytes_per_card,
                "tail_max": found.tail_max,
            }
        )
        # After each size, because the next may take long.
        plots.save_figures(options.results / "w1-cards.csv", curve)
        plots.cards(options.results / "w1-cards.png", curve)
    by_cards = {int(one["cards"]): one["swipes_per_s"] for one in curve}
    million = by_cards.get(10**6)
    ratios = {f"{cards}_to_1m": round(rate / million, 3) for cards, rate in by_cards.items() if million}
    return {"id": "curve", "runs": options.runs, "curve": curve, "missing": missing, "ratios": ratios}
