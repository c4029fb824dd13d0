from __future__ import annotations

import json
import logging

import pytest

from pipeline.json_log import JsonLines


def test_a_record_is_one_line_with_what_is_known(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("pipeline.trial")
    with caplog.at_level(logging.INFO, "pipeline.trial"):
        log.info("read %r\nand \x1b[31m%d more", "a\tb", 2)
        try:
            raise ValueError("why")
        except ValueError:
            log.exception("it failed")
    lines = [JsonLines(stream="coins", stage=None, run=None).format(record) for record in caplog.records]
    assert all("\n" not in line and "\x1b" not in line for line in lines)
    first, second = (json.loads(line) for line in lines)
    assert first.keys() == {"time", "level", "stream", "message", "logger"}
    assert (first["message"], first["logger"]) == ("read 'a\\tb'\nand \x1b[31m2 more", "pipeline.trial")
    assert second["level"] == "error"
    assert "ValueError: why" in second["traceback"]
