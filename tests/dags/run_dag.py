"""``dag.test()`` of one DAG of dags/, in a process of its own; prints the states of its tasks as JSON."""

from __future__ import annotations

import json
import sys

from airflow.dag_processing.dagbag import DagBag

folder, dag_id = sys.argv[1:]
bag = DagBag(folder)
assert not bag.import_errors, bag.import_errors
run = bag.dags[dag_id].test()
print(json.dumps({"run": run.state, **{task.task_id: task.state for task in run.get_task_instances()}}))
