"""The ledger's functions, version 1. A new version is a new file and a new step; old ones stay as they were."""

from pathlib import Path

from yoyo import step

__depends__ = {"0004_ledger"}

FUNCTIONS = Path(__file__).parent / "functions"

steps = [
    step(
        (FUNCTIONS / "ledger_guards_v1.sql").read_text("utf-8"),
        "DROP FUNCTION ledger.refuse_change_v1, ledger.verify_move_v1, ledger.verify_entries_v1, "
        "ledger.verify_balance_v1, ledger.verify_transaction_v1 CASCADE",
    ),
    step(
        (FUNCTIONS / "ledger_post_v1.sql").read_text("utf-8"),
        "DROP FUNCTION ledger.post_v1, ledger.open_accounts_v1",
    ),
]
