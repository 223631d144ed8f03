from __future__ import annotations

import json
import logging

from matchday import telemetry


def record(**extra: object) -> logging.LogRecord:
    return logging.makeLogRecord({"name": "x", "levelname": "INFO", "msg": "thing.happened", **extra})


def test_only_listed_fields_leave_the_process() -> None:
    line = json.loads(
        telemetry.JsonFormatter("serve").format(record(inbox_id="inb_1", password="hunter2", email="a@b"))
    )
    assert line["inbox_id"] == "inb_1"
    assert line["event"] == "thing.happened"
    assert "hunter2" not in json.dumps(line)
    assert "a@b" not in json.dumps(line)


def test_a_line_break_in_a_field_stays_inside_its_line() -> None:
    assert "\n" not in telemetry.JsonFormatter("serve").format(record(reason="a\nb"))
