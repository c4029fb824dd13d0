"""Parse a folder of DAG files as Airflow's DAG processor does and print what came of it as JSON."""

from __future__ import annotations

import json
import sys
import time
import warnings

from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import DagSerialization

warnings.simplefilter("ignore")
begun = time.perf_counter()
bag = DagBag(sys.argv[1])
dags = {dag_id: DagSerialization.to_dict(dag) for dag_id, dag in bag.dags.items()}
seconds = time.perf_counter() - begun
result = {
    "dags": dags,
    "errors": bag.import_errors,
    "warnings": bag.captured_warnings,
    "modules": sorted({name.partition(".")[0] for name in sys.modules}),
    "seconds": seconds,
}
print(json.dumps(result, default=str))
