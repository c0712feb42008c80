"""A shared study on a real PostgreSQL server, which the test starts; `scripts/postgres.sh` installs one."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest
from commands import Command, start
from shared import COMPARE, Inline, kill, measurements, one_result_a_run, small, undisturbed, wait_until_it_works

from thalweg.lab.contract import draw_up
from thalweg.lab.errors import UserError
from thalweg.lab.execution import workers
from thalweg.lab.queue.address import parse
from thalweg.lab.queue.ledger import Ledger
from thalweg.lab.space import entry

PASSWORD = "S3cret pass/word@{x}"
ESCAPED = "S3cret%20pass%2Fword%40%7Bx%7D"
PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
INITDB = shutil.which("initdb", path=os.pathsep.join([*map(str, PROGRAMS), os.environ.get("PATH", "")]))

pytestmark = pytest.mark.skipif(INITDB is None, reason="no PostgreSQL server: scripts/postgres.sh installs one")


def as_postgres(*command: str | Path) -> None:
    """Run a program of the server, which refuses to be root."""
    user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
    done = subprocess.run([*user, *map(str, command)], capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 0, done.stdout + done.stderr


class Server(NamedTuple):
    """A throw-away server."""

    url: str
    control: list[str | Path]
    """Begins a command of pg_ctl."""
    options: str


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server whose user has a password that needs escapes in a URL."""
    assert INITDB is not None
    programs = Path(INITDB).resolve().parent
    folder = Path(tempfile.mkdtemp(prefix="thalweg-postgres-"))
    (folder / "password").write_text(PASSWORD)
    if os.getuid() == 0:
        for path in (folder, folder / "password"):
            shutil.chown(path, "postgres")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data = folder / "data"
    as_postgres(INITDB, "-D", data, "-U", "ann", "-A", "scram-sha-256", "--pwfile", folder / "password", "--no-sync")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
    control: list[str | Path] = [programs / "pg_ctl", "-D", data, "-l", folder / "log", "-w"]
    as_postgres(*control, "-o", options, "start")
    try:
        yield Server(f"postgresql://ann:{ESCAPED}@127.0.0.1:{port}/postgres", control, options)
    finally:
        as_postgres(*control, "-m", "immediate", "stop")
        shutil.rmtree(folder)


def test_many_may_begin_a_study_at_once(server: Server) -> None:
    contract = draw_up("many", ["digits-mlp"], [entry("sgd")], 2, 2)
    with ThreadPoolExecutor(4) as pool:
        ledgers = list(pool.map(lambda _: Ledger.create(parse(server.url), contract), range(4)))
    assert {ledger.contract.hash for ledger in ledgers} == {contract.hash}
    found = Ledger.find(parse(server.url), contract.hash[:5])
    assert found.contract == contract
    assert found.attempts() == []


def test_a_password_is_in_no_error_and_no_output(server: Server, command: Command, tmp_path: Path) -> None:
    wrong = server.url.replace("S3cret", "Wr0ng")
    closed = (
        server.url.replace("127.0.0.1:", "127.0.0.1:1")[: server.url.index("127") + len("127.0.0.1:1")] + "/postgres"
    )
    for url, said in [(wrong, "password authentication failed"), (closed, "refused")]:
        done = command("worker", "abc", "--store", url)
        assert done.returncode == 2
        assert said in done.stderr
        assert "postgresql://ann:***@127.0.0.1" in done.stderr
        for secret in ("S3cret", "Wr0ng", "pass/word", "pass%2Fword"):
            assert secret not in done.stdout + done.stderr
    with pytest.raises(UserError) as caught:
        Ledger.find(parse(server.url), "none")
    assert "S3cret" not in str(caught.value) + repr(caught.value) + repr(parse(server.url))
    assert list(tmp_path.iterdir()) == []


def test_a_password_may_come_from_the_environment(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = server.url.replace(f":{ESCAPED}", "")
    with pytest.raises(UserError, match="no password supplied"):
        Ledger.create(parse(bare), small(), grace_seconds=3)
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    assert Ledger.create(parse(bare), small(), grace_seconds=3).attempts() == []


def test_a_server_that_starts_again_is_waited_for(server: Server) -> None:
    ledger = Ledger.create(parse(server.url), small(), grace_seconds=3)
    as_postgres(*server.control, "-m", "immediate", "stop")
    with ThreadPoolExecutor(1) as pool:
        look = pool.submit(ledger.attempts)
        as_postgres(*server.control, "-o", server.options, "start")
        assert look.result() == []


def test_a_worker_is_killed_and_another_ends_the_study(
    server: Server, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger.create(parse(server.url), small(), grace_seconds=3)
    first = start("worker", ledger.contract.hash, "--store", server.url, "--jobs", 1, cwd=tmp_path)
    wait_until_it_works(first, ledger)
    kill(first)
    monkeypatch.setattr(workers, "_Slot", Inline)
    monkeypatch.setattr(workers, "_stop", None, raising=False)
    done = command("compare", *COMPARE, "--store", server.url, "--jobs", "1")
    assert done.returncode == 0, done.stderr
    one_result_a_run(ledger)
    study = next((tmp_path / "studies").iterdir())
    assert measurements(study) == undisturbed()
    texts = [path.read_text(errors="replace") for path in study.rglob("*") if path.is_file()]
    assert not any("S3cret" in text for text in [done.stdout, done.stderr, *texts])
