"""The functions of the hash chain and of archiving, version 1, and who may call them."""

from pathlib import Path

from yoyo import step

__depends__ = {"0008_ledger_chain"}

FUNCTIONS = Path(__file__).parent / "functions"

# Going back, 0008_ledger_chain drops them.
steps = [step((FUNCTIONS / f"ledger_{name}_v1.sql").read_text("utf-8"), "SELECT 1") for name in ("chain", "archive")]
