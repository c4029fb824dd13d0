"""The operators of Tidemark's DAGs: one that runs a stage, two small ones around it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, BaseOperatorLink, RetryDecision, RetryPolicy, XComArg
from airflow.sdk.exceptions import AirflowSkipException, AirflowTaskTimeout
from airflow.sdk.log import mask_secret

from tidemark_airflow import PROJECT
from tidemark_airflow.addresses import check_page
from tidemark_airflow.child import Child
from tidemark_airflow.connections import environment, secrets
from tidemark_airflow.protocol import arguments, ended, level_of, result_of

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.types import TaskInstanceKey

FAILED = 1  # exit status of a stage that may succeed the next time
NEWSWORTHY = frozenset({"check", "retrain", "approve"})  # stages that decide something
WRONG_USAGE = 2  # exit status of a stage that would fail the same way again


class StageFailed(SystemExit):
    """A stage ended with an error that its own last line already explains.

    As a SystemExit it fails or retries the task like any other exception, but Airflow logs it without a traceback: the
    frames would be Airflow's and say nothing about the stage.

    Attributes:
        sentence: One line that says what is wrong and what to do.
        final: Whether another try would fail in the same way.
    """

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(status)
        self.sentence = sentence
        self.final = status == WRONG_USAGE

    def __str__(self) -> str:
        return self.sentence


class RetryUnlessFinal(RetryPolicy):
    """Spares the tries that would fail in the same way."""

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        """Fail for good on wrong usage or configuration; leave everything else to the task's retries."""
        if isinstance(exception, StageFailed) and exception.final:
            return RetryDecision.fail(reason=f"no retry: {exception}")
        return RetryDecision.default()


class ReportLink(BaseOperatorLink):
    """From the check's task to its report."""

    name = "Drift report"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Address of the report; empty where the task made none. Airflow asks once, when the task ends."""
        result = getattr(operator, "result", None) or {}
        # Its own check first: the decision may be that of an older alarm, which still stands.
        check = result.get("report") or result.get("check")
        return check_page(str(result.get("stream")), str(check)) if check else ""


class StageOperator(BaseOperator):
    """Run one stage of the pipeline, as a person would, in a child process.

    The child's log lines become the task's while they come; its JSON result becomes the task's. However the task ends,
    by itself, by a timeout, by a click in the UI, by SIGKILL, nothing that the child started lives on.

    Args:
        stage: The command's name.
        stream: The stream it works on.
        options: Options of the command by name. None, False and empty values are left out, True stands alone, a
            mapping becomes one ``KEY=VALUE`` for each of its leaves.
        form: DAG params that become options: param name → option name.
        carried: Values of the triggering asset event's extra that become options: key → option name. The form wins.
        tells: Whether people are told of a failure that is final, and of what was decided. That they could not be told
            never fails the task.
    """

    template_fields: Sequence[str] = ("options",)
    ui_color = "#e0f2f1"

    command: Sequence[str] = (sys.executable, "-m", "pipeline")

    def __init__(
        self,
        *,
        stage: str,
        stream: str,
        options: Mapping[str, Any] | XComArg | None = None,
        form: Mapping[str, str] | None = None,
        carried: Mapping[str, str] | None = None,
        tells: bool = False,
        **kwargs: Any,
    ) -> None:
        kwargs["retry_policy"] = kwargs.get("retry_policy") or RetryUnlessFinal()  # partial() says None
        super().__init__(**kwargs)
        self.stage = stage
        self.stream = stream
        self.options = options
        self.form = form
        self.carried = carried
        self.tells = tells
        self.result: dict[str, Any] | None = None
        self._child: Child | None = None

    def execute(self, context: Context) -> Any:
        """Run the stage and return its result.

        Raises:
            StageFailed: The stage could not be started, ended with an error or was ended.
        """
        try:
            self.result = self._run(self._command(context), self._environment(context))
        except StageFailed as failure:
            ti = context["ti"]
            if self.tells and (failure.final or ti.try_number > ti.max_tries):
                sentence = f"{ti.dag_id}, task {ti.task_id}: {failure}"
                self._tell(context, ["--failure", sentence, "--task", ti.task_id])
            raise
        if self.tells and self.stage in NEWSWORTHY:
            self._tell(context, [])
        return self.result

    def on_kill(self) -> None:
        """End the child and its descendants; Airflow calls this on SIGTERM and after a timeout."""
        if self._child is not None:
            self.log.warning("ending the stage")
            self._child.end()

    def _command(self, context: Context) -> list[str]:
        assert not isinstance(self.options, XComArg)  # rendered by now
        options = dict(self.options or {})
        for key, option in (self.carried or {}).items():
            options[option] = _newest(context["triggering_asset_events"], key)
        for param, option in (self.form or {}).items():
            if (value := context["params"].get(param)) is not None:
                options[option] = value
        return [*self.command, self.stage, self.stream, "--json", *arguments(options)]

    def _tell(self, context: Context, options: list[str]) -> None:
        """Send the messages that are due; a channel that is down or wrongly set up is a line in the log."""
        try:
            self._run(
                [*self.command, "notify", self.stream, "--json", *options], self._environment(context, tells=True)
            )
        except StageFailed:
            self.log.warning("not everybody could be told; the next run tries again")
        except Exception as error:  # noqa: BLE001  whatever it is, the stage's own outcome stands
            self.log.warning("nobody could be told (%s); the next run tries again", type(error).__name__)

    def _environment(self, context: Context, *, tells: bool = False) -> dict[str, str]:
        env = environment(tells=tells)
        for secret in secrets(env):
            mask_secret(secret)
        ti = context["ti"]
        run = f"{ti.dag_id}/{ti.run_id}/{ti.try_number}"
        # Plain text, whatever the worker's own environment says: the task's log keeps level and time itself.
        return {**env, "TIDEMARK_RUN": run, "TIDEMARK_LOG": "text", "PYTHONUNBUFFERED": "1"}

    def _run(self, command: list[str], env: Mapping[str, str]) -> dict[str, Any]:
        self.log.info("$ %s", shlex.join(["python" if part == sys.executable else part for part in command]))
        last = ""
        try:
            self._child = Child(command, env=env, cwd=PROJECT)
            for line in self._child.lines():
                last = self._repeat(line)
            status, output = self._child.wait(), self._child.stdout
        except (OSError, ValueError) as error:
            raise self._failed(WRONG_USAGE, f"cannot run the stage: {error}") from None
        except AirflowTaskTimeout:
            raise self._failed(FAILED, f"the stage took longer than {self.execution_timeout} and was ended") from None
        finally:  # a timeout, an interrupt or a bug of ours must not leave it running
            if self._child is not None:
                self._child.close()
                self._child = None
        try:
            result = result_of(output)
        except ValueError as error:
            if status == 0:
                raise self._failed(WRONG_USAGE, f"the stage's result cannot be read: {error}") from None
            result = {}
        if status == 0:
            return result
        if said := result.get("error"):
            raise StageFailed(status, str(said))  # the stage has logged it
        raise self._failed(status, ended(status, last))

    def _failed(self, status: int, sentence: str) -> StageFailed:
        self.log.error(sentence)
        return StageFailed(status, sentence)

    def _repeat(self, line: str) -> str:
        """Write a line of the child into the task's log; return its text."""
        level, text = level_of(line)
        getattr(self.log, level)(text)
        return text


class DriftCheck(StageOperator):
    """Run the check; the task links to the report."""

    operator_extra_links = (ReportLink(),)


class ShardPlan(StageOperator):
    """Run a stage that plans shards, and return the options of one task for each.

    XCom ``model`` holds the model version they are for, ``up_to`` the last image that is due, ``planned_at`` when that
    was found out. Without a version there is nothing to do, and the task skips.
    """

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Run the stage and return one mapping of options a shard."""
        result = super().execute(context)
        if result.get("version") is None:
            raise AirflowSkipException("no model version is in charge yet")
        context["ti"].xcom_push(key="model", value=result["version"])
        context["ti"].xcom_push(key="up_to", value=result["up_to"])
        context["ti"].xcom_push(key="planned_at", value=result.get("planned_at"))
        return [{"shard": shard, "model": result["version"]} for shard in result["shards"]]


class HandOver(BaseOperator):
    """Let go of an asset event if the stage before says so; skip otherwise, which lets none go.

    Args:
        result: The stage's result.
        field: The field of the result that decides.
        wanted: Values of the field that hand over; without them, any value that is true.
        carry: Fields of the result that go into the event's extra: ids only.
    """

    template_fields: Sequence[str] = ("result",)
    ui_color = "#fff8e1"

    def __init__(
        self,
        *,
        result: Mapping[str, Any] | XComArg,
        field: str,
        wanted: Collection[str] = (),
        carry: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.result = result
        self.field = field
        self.wanted = wanted
        self.carry = carry

    def execute(self, context: Context) -> None:
        """Hand over or skip."""
        assert isinstance(self.result, Mapping)  # rendered by now
        value = self.result.get(self.field)
        if value not in self.wanted if self.wanted else not value:
            raise AirflowSkipException(f"{self.field} is {value}: nothing to hand over")
        extra = {name: self.result.get(name) for name in self.carry}
        for outlet in self.outlets:
            context["outlet_events"][outlet].extra = extra
        self.log.info("%s is %s: handing over %s", self.field, value, extra)


def _newest(events: Mapping[Any, Sequence[Any]], key: str) -> str | None:
    """The value that the newest triggering event with this key carries."""
    carrying = [event for asset in events for event in events[asset] if key in (event.extra or {})]
    newest = max(carrying, key=lambda event: event.timestamp, default=None)
    return None if newest is None or newest.extra[key] is None else str(newest.extra[key])
