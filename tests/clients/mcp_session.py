"""A session of a real MCP client with contree-mcp over its standard streams; called by run.sh."""
import asyncio
import json
import os
from pathlib import Path
from typing import Any

from mcp.client.session import ClientSession
from mcp.client.stdio import StdioServerParameters, stdio_client


class Tools:
    """Calls tools by name and gives what they return; a refusal is an exception."""

    def __init__(self, session: ClientSession) -> None:
        self.session = session

    async def __call__(self, name: str, **arguments: Any) -> Any:
        answer = await self.session.call_tool(name, arguments)
        text = "".join(part.text for part in answer.content if part.type == "text")
        if getattr(answer, "is_error", getattr(answer, "isError", False)):
            raise RuntimeError(text)
        content = getattr(answer, "structured_content", getattr(answer, "structuredContent", None))
        if content is None:
            return json.loads(text)
        return content["result"] if set(content) == {"result"} else content


async def refused(call: Any) -> str:
    try:
        answer = await call
    except RuntimeError as e:
        return str(e)
    raise AssertionError(f"was not refused: {answer}")


async def session_with(session: ClientSession) -> None:
    await session.initialize()
    tools = Tools(session)
    names = {tool.name for tool in (await session.list_tools()).tools}
    assert {"run", "import_image", "grep"} <= names, names

    registry = os.environ["COPPICE_REGISTRY"]
    imported = await tools(
        "import_image",
        registry_url=f"docker://{registry}/debian:python",
        tag="common/python/debian:12",
        i_accept_that_anonymous_access_might_be_rate_limited=True,
    )
    assert imported["status"] == "SUCCESS", imported
    python = imported["result"]["image"]
    images = await tools("list_images", tag_prefix="common/python")
    assert python in json.dumps(images), images

    ran = await tools("run", command="python3 -c 'print(6 * 7)'", image=python)
    assert (ran["status"], ran["exit_code"], ran["stdout"]) == ("SUCCESS", 0, "42\n"), ran

    source = Path.cwd() / "project"
    source.mkdir()
    (source / "main.py").write_text("print(open('/app/data').read().strip().upper())\n")
    (source / "data").write_text("synchronised\n")
    state = await tools("rsync", source=str(source), destination="/app", exclude=["*.pyc"])
    kept = await tools("run", command="python3 /app/main.py", image=python, directory_state_id=state, disposable=False)
    assert kept["stdout"] == "SYNCHRONISED\n", kept
    image = kept["result_image_uuid"]
    assert image and image != python

    uploaded = await tools("upload", content="uploaded text\n")
    assert uploaded["size"] == len("uploaded text\n")
    shown = await tools("run", command="cat /in", image=image, files={"/in": uploaded["uuid"]})
    assert shown["stdout"] == "uploaded text\n", shown

    operations = [
        (await tools("run", command=f"sleep 1; echo {n}", image="tag:busybox:latest", wait=False))["operation_id"]
        for n in range(3)
    ]
    waited = await tools("wait_operations", operation_ids=operations)
    assert sorted(one["stdout"] for one in waited["results"].values()) == ["0\n", "1\n", "2\n"], waited
    listed = await tools("list_operations")
    assert all(operation in json.dumps(listed) for operation in operations), listed

    long = (await tools("run", command="sleep 600", image="tag:busybox:latest", timeout=900, wait=False))["operation_id"]
    assert (await tools("cancel_operation", operation_id=long))["cancelled"]
    assert (await tools("get_operation", operation_id=long))["status"] == "CANCELLED"

    listing = await tools("list_files", image=image, path="/app")
    assert sorted(entry["name"] for entry in listing["files"]) == ["data", "main.py"], listing
    assert (await tools("list_files", image=image, path="/usr/lib/python3.11"))["count"] > 100
    assert (await tools("read_file", image=image, path="/app/data"))["content"] == "synchronised\n"
    target = Path.cwd() / "fetched" / "main.py"
    fetched = await tools("download", image=image, path="/app/main.py", destination=str(target))
    assert fetched["success"] and target.read_text() == (source / "main.py").read_text()
    found = await tools("grep", image=image, pattern="^synchron", path="/app")
    assert [match["path"] for match in found["matches"]] == ["/app/data"], found

    assert (await tools("set_tag", image_uuid=image, tag="common/app/debian:12"))["tag"] == "common/app/debian:12"
    assert (await tools("get_image", image="tag:common/app/debian:12"))["uuid"] == image
    assert (await tools("set_tag", image_uuid=image))["tag"] is None
    assert "404" in await refused(tools("get_image", image="tag:common/app/debian:12"))
    assert "404" in await refused(tools("read_file", image=image, path="/nothing"))
    assert (await tools("whoami"))["permissions"]["spawn"]

    read = await session.read_resource(f"contree://image/{image}/read/app/data")
    assert "synchronised" in read.contents[0].text
    lineage = await session.read_resource(f"contree://image/{image}/lineage")
    assert python in lineage.contents[0].text, lineage


async def main() -> None:
    server = StdioServerParameters(
        command="contree-mcp",
        args=["--auth-type", "jwt"],
        env={
            **os.environ,
            "CONTREE_URL": os.environ["COPPICE_URL"],
            "CONTREE_TOKEN": os.environ["COPPICE_TOKEN"],
        },
    )
    async with stdio_client(server) as (reader, writer), ClientSession(reader, writer) as session:
        await session_with(session)
    print("mcp: ok")


asyncio.run(main())
