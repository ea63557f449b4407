"""Ceph's RADOS Gateway from Debian's packages, on loopback addresses: a real S3 server for tests.

One monitor, manager, storage daemon (its data in memory, gone with it) and gateway, each a child of this
process. What it does not do as Amazon does, in version 16: If-None-Match is honoured on plain PUTs only.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.s3 import Server, free_port, wait_for_port
from tests.services.packages import install

PACKAGES = {
    "ceph-mon": "ceph-mon", "ceph-osd": "ceph-osd", "ceph-mgr": "ceph-mgr", "radosgw": "radosgw",
    "radosgw-admin": "radosgw", "monmaptool": "ceph-common", "ceph": "ceph-common",
}  # fmt: skip

CONFIG = """
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{mon}/0]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 2000
run dir = {home}
log file = {home}/$type.log
admin socket = {home}/$type.asok
keyring = {home}/keyring
mgr modules =
[mon.a]
host = localhost
mon data = {home}/mon
mon data avail crit = 1
mon data avail warn = 2
mon cluster log file = {home}/cluster.log
[mgr]
mgr data = {home}/mgr
[osd]
osd data = {home}/osd
osd objectstore = memstore
memstore device bytes = {memory}
osd class load list = *
osd class default list = *
osd max object name len = 256
[client]
ms mon client mode = crc secure
rgw frontends = beast endpoint=127.0.0.1:{port} tcp_nodelay=1
rgw thread pool size = 128
rgw data = {home}/rgw
rgw dynamic resharding = false
rgw override bucket index max shards = 1
"""
# Without tcp_nodelay each small answer waits 40 ms for the client's acknowledgement.


@contextmanager
def ceph_server(memory_mb: int = 2048) -> Iterator[Server]:
    """A gateway that takes one user's keys; ready in some 20 s, installing not counted."""
    install(PACKAGES)
    with ExitStack() as stack:
        # Paths of sockets may have 107 characters, fewer than pytest's folders take.
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ceph-")))
        yield _start(stack, home, memory_mb << 20)


def _start(stack: ExitStack, home: Path, memory_bytes: int) -> Server:
    mon, port, fsid, file = free_port(), free_port(), str(uuid.uuid4()), str(home / "ceph.conf")
    for name in ("mon", "mgr", "osd", "rgw"):
        (home / name).mkdir()
    Path(file).write_text(CONFIG.format(fsid=fsid, mon=mon, port=port, home=home, memory=memory_bytes))

    def call(*command: str) -> str:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr[-2000:]}")
        return done.stdout

    def daemon(*command: str) -> subprocess.Popen[bytes]:
        with (home / f"{command[0]}.out").open("wb") as out:
            process = subprocess.Popen([*command, "-f"], stdout=out, stderr=subprocess.STDOUT)
        stack.callback(_stop, process)
        return process

    map_file = str(home / "monmap")
    call("monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"[v2:127.0.0.1:{mon}/0]", map_file)
    call("ceph-mon", "-c", file, "-i", "a", "--mkfs", "--monmap", map_file)
    wait_for_port(mon, daemon("ceph-mon", "-c", file, "-i", "a"))
    daemon("ceph-mgr", "-c", file, "-i", "x")
    osd_id = str(uuid.uuid4())
    call("ceph", "-c", file, "osd", "new", osd_id)
    call("ceph-osd", "-c", file, "-i", "0", "--mkfs", "--osd-uuid", osd_id)
    daemon("ceph-osd", "-c", file, "-i", "0")
    _wait(lambda: "1 up" in call("ceph", "-c", file, "osd", "stat"))
    server = Server(f"http://127.0.0.1:{port}")
    keys = (f"--access-key={server.key}", f"--secret-key={server.secret}")
    call("radosgw-admin", "-c", file, "user", "create", "--uid=test", "--display-name=test", *keys)
    wait_for_port(port, daemon("radosgw", "-c", file, "-n", "client.rgw"), 120)
    return server


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(3)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(30)


def _wait(ready: Callable[[], bool], seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            raise RuntimeError("Ceph is not ready")
        time.sleep(0.2)
