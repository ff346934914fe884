"""Brings made-up requests near to things that are there, and says which server errors are none."""
import os

import requests
import schemathesis

URL = os.environ["COPPICE_URL"]
HEADERS = {"Authorization": "Bearer " + os.environ["COPPICE_TOKEN"]}


def prepare() -> tuple[str, str, str]:
    """An image, an operation that has ended and the digest of a file."""
    image = requests.get(URL + "/v1/images", headers=HEADERS, timeout=60).json()["images"][0]["uuid"]
    run = {"command": "true", "image": image, "disposable": True}
    operation = requests.post(URL + "/v1/instances", json=run, headers=HEADERS, timeout=60).json()["uuid"]
    events = f"{URL}/v1/operations/{operation}/events?follow=1"
    requests.get(events, headers=HEADERS, timeout=300).raise_for_status()
    file = requests.post(URL + "/v1/files", data=b"bytes", headers=HEADERS, timeout=60).json()["sha256"]
    return image, operation, file


IMAGE, OPERATION, FILE = prepare()
PATH_VALUES = {"imageUUID": IMAGE, "image_uuid": IMAGE, "operationId": OPERATION, "sha256": FILE}


@schemathesis.hook
def map_path_parameters(context, path_parameters):
    """Every other identifier is one that is there."""
    if path_parameters:
        for name, value in PATH_VALUES.items():
            if name in path_parameters and hash(str(path_parameters[name])) % 2 == 0:
                path_parameters[name] = value
        if path_parameters.get("spid") is not None and hash(str(path_parameters["spid"])) % 2 == 0:
            path_parameters["spid"] = 1
    return path_parameters


@schemathesis.hook
def map_body(context, body):
    """Runs are short, keep nothing and have an image; imports come from nowhere."""
    if isinstance(body, dict) and "image" in body:
        if isinstance(body["image"], str):
            body["image"] = "tag:busybox:latest"
        if isinstance(body.get("disposable", False), bool):
            body["disposable"] = True
        if isinstance(body.get("timeout", 0), int):
            body["timeout"] = min(body.get("timeout", 2), 2)
    if isinstance(body, dict) and isinstance(body.get("registry"), dict):
        if isinstance(body["registry"].get("url"), str):
            body["registry"]["url"] = "docker://127.0.0.1:1/nothing:here"
    return body


@schemathesis.check
def is_no_server_error(ctx, response, case):
    """Declared answers of a server that is full or stops are none."""
    assert response.status_code < 500 or response.status_code in (503, 507), response.status_code
