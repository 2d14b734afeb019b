"""`python -m bench`: measures the bars, prints a table, writes build/bench.json.

make bench                          every bar
BENCH=throughput make bench         one bar
PYTHONPATH=tests BENCH=throughput python -m bench --only bus-1 --records 300000 --rounds 1
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import traceback
from pathlib import Path

from bench.registry import BARS, Bench, Result, measure_of
from bench.stage import BenchKafka
from shutong_core.runtime.logs import configure_logs

ROOT = Path(__file__).parents[2]
REPORT = ROOT / "build" / "bench.json"


def main() -> int:
    """Measure; returns 1 if a goal is missed or a bar could not be measured."""
    options = _options()
    # As after Ctrl-C, what was started is ended: an exception unwinds the stages.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    configure_logs("bench", "error", sys.stderr)
    results: list[Result] = []
    failed: list[str] = []
    with BenchKafka(running=options.kafka) as kafka:
        bench = Bench(
            kafka,
            records=options.records,
            rounds=options.rounds,
            only=frozenset(options.only.split(",")) - {""},
            env=dict(each.split("=", 1) for each in options.env),
            profile=options.profile,
            quick=options.quick,
        )
        for bar in options.bar or BARS:
            print(f"== {bar}", flush=True)
            try:
                results += measure_of(bar)(bench)
            except Exception:  # the other bars are still worth measuring
                traceback.print_exc()
                failed.append(bar)
    _print_table(results, failed)
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(json.dumps([each.as_json() for each in results], indent=2) + "\n")
    print(f"written: {REPORT.relative_to(ROOT)}")
    return 1 if failed or any(each.met is False for each in results) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    chosen = os.environ.get("BENCH", "").split(",")
    parser.add_argument(
        "--bar", action="append", choices=list(BARS), help="a bar; also by BENCH (default: all)"
    )
    parser.add_argument("--records", type=int, help="records measured in a round")
    parser.add_argument("--rounds", type=int, help="rounds")
    parser.add_argument("--quick", action="store_true", help="do not tune the peers first")
    parser.add_argument("--only", default="", help="contestants, by comma: bus-1,streams")
    parser.add_argument("--env", action="append", default=[], help="NAME=VALUE for the brokers")
    parser.add_argument("--kafka", help="HOST:PORT of a running Kafka to use (default: its own)")
    parser.add_argument("--profile", help="directory for a cProfile of each broker process")
    options = parser.parse_args()
    options.bar = options.bar or [name for name in chosen if name]
    for name in options.bar:
        if name not in BARS:
            parser.error(f"BENCH={name}: the bars are {', '.join(BARS)}")
    return options


def _print_table(results: list[Result], failed: list[str]) -> None:
    print(f"\n{'bar':44} {'value':>12} {'unit':14} {'goal':>10} {'met':>4}   rounds (worst)")
    for each in results:
        met = {True: "yes", False: "NO", None: ""}[each.met]
        down = each.goal is not None and each.goal.startswith("<=")
        worst = (max if down else min)(each.rounds) if each.rounds else each.value
        shown = f"{len(each.rounds)} ({worst:,.2f})"
        print(
            f"{each.bar:44} {each.value:12,.2f} {each.unit:14} {each.goal or '':>10} {met:>4}"
            f"   {shown}"
        )
    for bar in failed:
        print(f"{bar:44} could not be measured")


if __name__ == "__main__":
    sys.exit(main())
