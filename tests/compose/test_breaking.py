"""Workers and servers come and go while Airflow works: nothing is lost, nothing is there twice."""

from __future__ import annotations

import pytest

from tests.compose.stack import STREAM, Stack, until


@pytest.fixture(autouse=True)
def whole(stack: Stack) -> None:
    """Every service runs, with one worker, and the stream's images have their predictions."""
    stack.compose("up", "-d", "--scale", "worker=1")
    stack.await_quiet()
    assert stack.predictions() == stack.images > 0


def complete(stack: Stack, before: int, added: int) -> None:
    """Each image has one prediction by the champion: two are impossible, the primary key is image and version."""
    assert stack.images == before + added
    assert stack.predictions() == stack.images


def test_another_worker_finishes_what_a_killed_one_began(stack: Stack) -> None:
    before = stack.images
    stack.compose("up", "-d", "--no-deps", "--no-recreate", "--scale", "worker=2", "worker")
    stack.push(3000, seed=11)
    stack.cli("ingest", STREAM, "--json")
    workers = stack.containers("worker")  # asked for now: a shard may take a few seconds only
    assert len(workers) == 2
    run = stack.start("score")
    found: list[str] = []

    def scores() -> bool:
        found.extend(worker for worker in workers if "--shard" in stack.processes(worker))
        return bool(found)

    until(scores, 120, "no worker scores")
    stack.kill(found[0])
    ended = stack.await_end(run)
    assert ended.state == "success"
    assert max(task.try_number for task in stack.airflow.tasks(ended) if task.task_id == "shard") > 1
    complete(stack, before, 3000)


@pytest.mark.parametrize(("server", "seed"), [("postgres", 21), ("minio", 22), ("redis", 23)])
def test_a_night_outlives_the_restart_of_a_server(stack: Stack, server: str, seed: int) -> None:
    before = stack.images
    stack.push(150, seed)
    run = stack.start("ingest")
    stack.await_task(run, "ingest")
    stack.compose("restart", "-t", "5", server)
    stack.await_end(run)
    stack.await_quiet()
    if stack.airflow.run(run.dag_id, run.run_id).state != "success" or stack.predictions() != stack.images:
        stack.await_end(stack.start("ingest"))  # what a person would do in the morning
        stack.await_quiet()
    complete(stack, before, 150)


def test_workers_can_be_added_and_taken_away_while_scoring(stack: Stack) -> None:
    before = stack.images
    stack.push(3000, seed=31)
    stack.cli("ingest", STREAM, "--json")
    run = stack.start("score")
    stack.await_task(run, "shard")
    stack.compose("up", "-d", "--no-deps", "--no-recreate", "--scale", "worker=2", "worker")
    stack.compose("up", "-d", "--no-deps", "--no-recreate", "--scale", "worker=1", "worker")
    assert stack.await_end(run).state == "success"
    complete(stack, before, 3000)


def test_what_was_due_while_the_scheduler_was_away_is_done_after_it(stack: Stack) -> None:
    before = stack.images
    stack.compose("stop", "scheduler")
    stack.push(150, seed=41)
    run = stack.start("ingest")  # the API takes it; nobody starts it
    stack.compose("start", "scheduler")
    assert stack.await_end(run).state == "success"
    stack.await_quiet()
    complete(stack, before, 150)


def test_a_full_store_is_named_and_costs_nothing(stack: Stack) -> None:
    champion, images = stack.champion, stack.images
    with stack.on_a_small_disk(room=1) as make_room:
        retrain = ("retrain", STREAM, "--force", "--set", "train.epochs=1")
        said = stack.compose("run", "--rm", "-T", "cli", *retrain, check=False)
        print(said[-3000:])
        assert "error: MLflow at http://mlflow:5000 answers but fails (status 500): see that its artefact store" in said
        assert "Traceback" not in said
        assert (stack.champion, stack.predictions()) == (champion, images)
        make_room()
        stack.cli(*retrain)
        assert stack.champion >= champion
    stack.cli("status", STREAM)
    complete(stack, images, 0)
