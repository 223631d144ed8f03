"""The ledger's functions, version 1. A new version is a new file and a new step; old ones stay as they were."""

from pathlib import Path

from yoyo import step

__depends__ = {"0004_ledger"}

FUNCTIONS = Path(__file__).parent / "functions"

# Going back, everything goes with the schema in 0004.
steps = [
    step((FUNCTIONS / f"ledger_{name}_v1.sql").read_text("utf-8"), "SELECT 1")
    for name in ("guards", "partitions", "post", "accounts")
]
