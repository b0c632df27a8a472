"""The alert rules name only metrics and reasons that there are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from dccf.api.metrics import Metrics, _fleet_families, _queue_families
from dccf.controller.metrics import ControllerMetrics
from dccf.models import PLATFORM_REASONS
from dccf.store.database import Database
from dccf.store.gauges import QueueGauges
from dccf.worker.board import Board
from dccf.worker.tally import Tally, TallyCollector

DOCS = Path(__file__).parents[2] / "docs"


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((DOCS / "prometheus-rules.yaml").read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def known_metrics() -> set[str]:
    database = Database("postgresql+psycopg2://nobody@127.0.0.1:1/none")
    families = [
        *_queue_families({"": QueueGauges()}, {}, set()),
        *_fleet_families((), 0),
        *TallyCollector(Tally(), Board()).collect(),
        *ControllerMetrics().registry.collect(),
        *Metrics(database).registry.collect(),  # with PostgreSQL away it says that
    ]
    database.close()
    names = {family.name for family in families}
    return {f"{family.name}_total" for family in families if family.type == "counter"} | names


def test_rules_and_manual_name_only_metrics_that_there_are() -> None:
    texts = [rule["expr"] for rule in rules()]
    manual = (DOCS / "operations.md").read_text().partition("## Metrics")[2].partition("## Upgrade")[0]
    named = set(re.findall(r"\bdccf_[a-z_]+", " ".join([*texts, manual])))
    assert named <= known_metrics()
    assert len(named) > 10


def test_every_metric_stands_in_the_manual() -> None:
    manual = (DOCS / "operations.md").read_text()
    ours = {name for name in known_metrics() if name.startswith("dccf_")}
    bare = {name for name in ours if f"{name}_total" not in ours}
    assert [name for name in sorted(bare) if name not in manual] == []


def test_the_alert_on_the_platforms_faults_knows_all_of_them() -> None:
    (rule,) = [rule for rule in rules() if rule["alert"] == "DccfPlatformFails"]
    named = re.search(r'reason=~"([a-z_|]+)"', rule["expr"])
    assert named is not None
    assert set(named[1].split("|")) == {reason.value for reason in PLATFORM_REASONS}
