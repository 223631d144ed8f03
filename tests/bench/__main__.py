"""`tox -e bench`: every bench, one after another; each pairs its sides within one run."""

from __future__ import annotations

import subprocess
import sys

BENCHES = ("storage_bench", "runtime_bench", "ledger_bench", "transfer_bench", "growth_bench", "fanout_bench")


def main() -> None:
    for bench in BENCHES:
        print(f"\n## {bench}\n", flush=True)
        subprocess.run([sys.executable, "-m", f"tests.bench.{bench}"], check=True)


if __name__ == "__main__":
    main()
