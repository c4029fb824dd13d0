"""The question to a person between gate and promotion, by Airflow's human-in-the-loop operator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import ApprovalOperator, HITLOperator
from airflow.sdk import XComArg
from airflow.sdk.exceptions import AirflowSkipException

if TYPE_CHECKING:
    from airflow.sdk import Context

AWAITING = "awaiting approval"


class AskApproval(ApprovalOperator):
    """Ask whether a challenger may take over, where the retraining before says that it awaits approval; else skip.

    No answer within the time means no. Either answer goes on to the task that follows, as options of the command
    ``approve``: a challenger that is turned down is put on record too.

    Args:
        result: The retraining's result: ``outcome``, ``version``, ``stream`` and ``evidence`` in markdown.
        hours: How long to wait.
    """

    template_fields: Sequence[str] = ("result",)
    ui_color = "#fff8e1"

    def __init__(self, *, result: Mapping[str, Any] | XComArg, hours: float, **kwargs: Any) -> None:
        super().__init__(
            subject="May the challenger take over?",
            defaults=self.REJECT,
            response_timeout=timedelta(hours=hours),
            **kwargs,
        )
        self.result = result

    def execute(self, context: Context) -> Any:
        """Ask, with the evidence; the task then waits without a process of its own."""
        assert isinstance(self.result, Mapping)  # rendered by now
        if self.result.get("outcome") != AWAITING:
            raise AirflowSkipException(f"outcome is {self.result.get('outcome')}: there is nothing to approve")
        self.subject = f"May version {self.result['version']} of {self.result['stream']} take over?"
        self.body = str(self.result.get("evidence") or "")
        return super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Turn the answer into options of the command ``approve``."""
        assert isinstance(self.result, Mapping)
        # The step in between would skip what follows a no, which has to put it on record.
        answer = HITLOperator.execute_complete(self, context, event)
        user = answer["responded_by_user"]
        name = user["name"] if user else "nobody: the time was up"
        decline = answer["chosen_options"] != [self.APPROVE]
        self.log.info("%s by %s", "declined" if decline else "approved", name)
        return {"version": self.result["version"], "decline": decline, "by": str(name)[:200]}
