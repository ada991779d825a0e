"""Tests of the lines that say how to open a cluster's web pages on the user's machine."""

import getpass
import socket

import pytest

from undertow.api.keys import REPLACEMENT
from undertow.cluster.web_pages import Access

ME = getpass.getuser()
SSH = {"RAY_AUTH_MODE": "token"}
SLURM = {"SLURM_SUBMIT_HOST": "login1"}
POD = {"KUBERNETES_SERVICE_HOST": "10.96.0.1"}
HERE, THERE = "127.0.0.1", "10.0.0.7"
DATABASE = "sqlite:////shared/undertow/mlflow.db"

# Variables, address of the head, dashboard, tracking URI → lines.
LINES: dict[str, tuple[dict[str, str], str, str, str, list[str]]] = {
    "machines over SSH": (
        SSH,
        THERE,
        "127.0.0.1:8265",
        DATABASE,
        [
            f"Ray's dashboard: ssh -L 8265:127.0.0.1:8265 {ME}@{THERE}, then http://127.0.0.1:8265 "
            "(its token: ray get-auth-token)",
            f"MLflow, after the sweep: ssh -L 5000:127.0.0.1:5000 {ME}@{THERE}, "
            "there make ui STORAGE=/shared/undertow, then http://127.0.0.1:5000",
        ],
    ),
    "a job of Slurm, through its login node": (
        SLURM,
        THERE,
        "10.0.0.7:41003",
        "http://10.0.0.2:5001",
        [
            f"Ray's dashboard: ssh -L 8265:10.0.0.7:41003 {ME}@login1, then http://127.0.0.1:8265",
            f"MLflow: ssh -L 5000:10.0.0.2:5001 {ME}@login1, then http://127.0.0.1:5000",
        ],
    ),
    "Kubernetes": (
        POD,
        THERE,
        "10.0.0.7:8265",
        "http://mlflow:5000",
        [
            f"Ray's dashboard: kubectl port-forward pod/{socket.gethostname()} 8265:8265, "
            "then http://127.0.0.1:8265",
            "MLflow: http://mlflow:5000",
        ],
    ),
    "a head on this machine": (
        {},
        HERE,
        "127.0.0.1:8266",
        DATABASE,
        [
            "Ray's dashboard: http://127.0.0.1:8266",
            "MLflow, after the sweep: make ui STORAGE=/shared/undertow, then http://127.0.0.1:5000",
        ],
    ),
    "no dashboard, and a server with a password": (
        SSH,
        THERE,
        "",
        "https://me:secret@mlflow.example.org",
        [f"MLflow: https://{REPLACEMENT}@mlflow.example.org"],
    ),
}


@pytest.mark.parametrize(("variables", "head", "dashboard", "uri", "lines"), LINES.values(), ids=LINES.keys())
def test_the_lines_name_the_command_that_leads_to_each_page(
    variables: dict[str, str], head: str, dashboard: str, uri: str, lines: list[str]
) -> None:
    assert Access.of(head, variables).lines(dashboard, uri) == lines
