"""The asynchronous examples of contree-sdk; called by run.sh."""
import asyncio
import os
import stat
from pathlib import Path, PurePosixPath

from contree_sdk import Contree
from contree_sdk.auth import JWTAuth
from contree_sdk.config import ContreeConfig
from contree_sdk.sdk.objects.image_fs import ImageFile
from contree_sdk.utils.models.file import UploadFileSpec


async def main() -> None:
    contree = Contree(ContreeConfig(auth=JWTAuth(token=os.environ["COPPICE_TOKEN"], base_url=os.environ["COPPICE_URL"])))
    here = Path.cwd()
    (here / "app.sh").write_text('#!/bin/sh\necho "$1" | tee /result.txt\n')

    assert "busybox:latest" in [image.tag for image in await contree.images()]
    busybox = await contree.images.use("busybox:latest")
    first = await busybox.run(
        command="/app.sh",
        args=("asked",),
        files=[
            UploadFileSpec(source=here / "app.sh", mode=stat.S_IRWXU),
            UploadFileSpec(source=b"x,y\n", path=PurePosixPath("/data.csv")),
        ],
        disposable=False,
    )
    assert first.stdout == "asked\n", first.stderr
    items = {item.name: item for item in await first.ls("/")}
    assert items["bin"].is_dir and not items["data.csv"].is_dir
    assert isinstance(items["result.txt"], ImageFile)
    assert await items["result.txt"].read() == b"asked\n"

    session = busybox.session()
    await session.run(shell="mkdir -p /app; touch /app/file1.txt", disposable=False)
    await session.run(shell="echo hello >/app/file1.txt", disposable=False)
    assert await session.read("/app/file1.txt") == b"hello\n"
    await session.download("/app/file1.txt", here / "file1.txt")
    assert (here / "file1.txt").read_text() == "hello\n"

    # A tree: eight children of one image at once, each with its own answer.
    children = await asyncio.gather(
        *(first.run(shell=f"echo {n} >>/result.txt; cat /result.txt", disposable=False) for n in range(8))
    )
    assert [child.stdout for child in children] == [f"asked\n{n}\n" for n in range(8)]
    assert len({child.uuid for child in children}) == 8

    uploaded = await contree.files.upload(str(here / "file1.txt"))
    assert uploaded.uuid is not None
    print("sdk, asynchronous: ok")


asyncio.run(main())
