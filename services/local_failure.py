"""Why a Serve application does not start, as one sentence."""

import re
from typing import Any

from ray.serve.schema import ApplicationStatus


def failure(application: Any) -> str | None:
    """Why an application has failed, or is failing again and again; None while it is well."""
    if application.status in (ApplicationStatus.DEPLOY_FAILED, ApplicationStatus.UNHEALTHY):
        messages = [deployment.message for deployment in application.deployments.values()]
        return last_error("\n".join([application.message, *messages]))
    for deployment in application.deployments.values():
        if "failed to start" in deployment.message:
            return last_error(deployment.message)
    return None


def last_error(traceback: str) -> str:
    """The message of the last exception in a text with tracebacks; its last line if none is.

    Args:
        traceback: such as Serve's status messages hold, with Ray's own lines around it.
    """
    found = re.findall(r"^(?:[\w.]+\.)?\w*(?:Error|Exception|Failed)\b: *(.+)$", traceback, re.M)
    lines = [line.strip() for line in traceback.splitlines() if line.strip()]
    return str(found[-1] if found else lines[-1] if lines else "it gave no reason").strip()
