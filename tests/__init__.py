"""Tests. What they assert through shared modules is explained as if it stood in the test itself."""

import pytest

pytest.register_assert_rewrite("tests.client", "tests.stack")
