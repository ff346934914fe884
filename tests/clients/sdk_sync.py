"""The synchronous examples of contree-sdk, with the files that they name; called by run.sh."""
import os
import stat
import subprocess
from pathlib import Path

from contree_sdk import ContreeSync
from contree_sdk.auth import JWTAuth
from contree_sdk.config import ContreeConfig
from contree_sdk.sdk.objects.image_fs import ImageFileSync
from contree_sdk.utils.models.file import UploadFileSpec

contree = ContreeSync(ContreeConfig(auth=JWTAuth(token=os.environ["COPPICE_TOKEN"], base_url=os.environ["COPPICE_URL"])))
here = Path.cwd()
(here / "app.sh").write_text('#!/bin/sh\nread line\necho "$line $1 $2 $http_proxy"\nwc -l </data.csv\n')
(here / "data_ver1.csv").write_text("a,b\n1,2\n")

assert contree.get_token_info().permissions is not None
assert "busybox:latest" in [image.tag for image in contree.images()]
busybox = contree.images.use("busybox:latest")
python = contree.images.oci(f"docker://{os.environ['COPPICE_REGISTRY']}/debian:python")
assert python.uuid is not None

first = busybox.run(
    command="/app.sh",
    args=("arg1", "arg2"),
    stdin="input\n",
    env=dict(http_proxy="http://10.20.30.40:1234"),
    files=[
        UploadFileSpec(source=here / "app.sh", mode=stat.S_IRWXU),
        UploadFileSpec(source=here / "data_ver1.csv", path="/data.csv"),
    ],
    disposable=False,
).wait()
assert first.exit_code == 0, first.stderr
assert first.stdout == "input arg1 arg2 http://10.20.30.40:1234\n2\n", first.stdout

second = first.run(shell="mkdir -p files/path; echo output.csv | tee files/path/found", cwd="/", disposable=False).wait()
assert second.stdout == "output.csv\n"
assert second.uuid != first.uuid
items = second.ls("/files/path")
assert [item.name for item in items] == ["found"]
for item in items:
    assert not item.is_dir
    assert isinstance(item, ImageFileSync)
    downloaded = item.download(here / "downloaded.csv")
    assert Path(downloaded).read_text() == "output.csv\n"
    assert item.read() == b"output.csv\n"

session = busybox.session()
session.run(
    command="/bin/app",
    files=[UploadFileSpec(source=b"#!/bin/sh\necho app ran >/tmp/log.jsonl\n", path="/bin/app", mode=0o755)],
    disposable=False,
).wait()
assert session.run(command="cat", args=("/tmp/log.jsonl",), disposable=False).wait().stdout == "app ran\n"
session.download("/tmp/log.jsonl", here / "session_1.log")
assert (here / "session_1.log").read_text() == "app ran\n"
assert session.read("/tmp/log.jsonl") == b"app ran\n"

stdout, _ = busybox.session().popen(["cat"], text=True).communicate("a\nb\nc\n")
assert stdout == "a\nb\nc\n", stdout
process = busybox.session().popen("echo hello && ls -la", shell=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
process.wait()
assert process.returncode == 0
assert process.stdout.read().startswith(b"hello\n")

# No change to the file system gives the same image.
changed = busybox.run(shell="echo CHANGES >/file.txt", disposable=False).wait()
unchanged = changed.run(shell="true", disposable=False).wait()
assert unchanged.uuid == changed.uuid

# Siblings of one image are different.
random = busybox.run(shell="cat /proc/sys/kernel/random/uuid >/tmp/random.txt", disposable=False)
assert len({random.wait().uuid for _ in range(3)}) == 3

changed.tag_as("sdk/changed:1")
assert contree.images.use("sdk/changed:1").run(shell="cat /file.txt").wait().stdout == "CHANGES\n"
changed.untag()
failed = busybox.run(shell="echo wrong >&2; exit 7").wait()
assert (failed.exit_code, failed.stderr) == (7, "wrong\n")
print("sdk, synchronous: ok")
