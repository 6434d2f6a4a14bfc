"""`unisono doctor`, under real limits and under those of folders that look like a container's."""

import json
import os
import platform
import subprocess
import sys

import pytest

import unisono as package
from support.installed import COMMAND

WHAT = [
    "descriptors",
    "processes",
    "memory",
    "processors",
    "names",
    "clock",
    "proxies",
    "certificates",
    "temporary",
    "versions",
]


@pytest.fixture
def doctor(unisono, monkeypatch):
    """What it finds, by what it is about, and its exit status; `before` runs in the shell that starts it."""

    def run(*words, before="true", **variables):
        script = f'{before}; exec "$0" doctor --json "$@"'
        environment = {**os.environ, **variables}
        done = subprocess.run(
            ["bash", "-c", script, str(COMMAND), *map(str, words)],
            capture_output=True,
            text=True,
            timeout=60,
            env=environment,
        )
        told = json.loads(done.stdout)
        assert told["fails"] == (done.returncode == 1), done.stderr
        return {finding["what"]: finding for finding in told["findings"]}, done.returncode

    return run


@pytest.fixture
def container(tmp_path):
    """A folder with the control groups, names and kernel of a container; the group's own files lie two below the mount."""
    own = tmp_path / "root/sys/fs/cgroup/kubepods/pod"
    own.mkdir(parents=True)
    for name, text in {
        "proc/self/cgroup": "1:name=systemd:/\n0::/kubepods/pod\n",
        "proc/self/mountinfo": "29 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup rw\n",
        "proc/sys/kernel/osrelease": "6.1.0-of-the-container\n",
        "etc/resolv.conf": "# a comment\nnameserver 10.0.0.10\nnameserver\t10.0.0.11\nnameservers no\n",
        "etc/nsswitch.conf": "passwd: files\nhosts:\tfiles dns myhostname\n",
    }.items():
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def bounds(group="kubepods/pod", **files):
        for name, text in files.items():
            (tmp_path / "root/sys/fs/cgroup" / group / name.replace("_", ".")).write_text(f"{text}\n")

    bounds.root = tmp_path / "root"
    return bounds


def test_ten_lines_say_what_will_limit_a_run_and_json_says_the_same(unisono):
    text, told = unisono("doctor"), unisono("doctor", "--json")
    assert text.returncode == told.returncode == 0
    assert [line.split()[0] for line in text.stdout.splitlines()] == WHAT
    findings = json.loads(told.stdout)["findings"]
    assert [finding["what"] for finding in findings] == WHAT
    for finding, line in zip(findings, text.stdout.splitlines(), strict=True):
        assert set(finding) == {"what", "value", "limits_to", "raised_by", "fails", "details"}
        if finding["what"] not in ("names", "temporary"):
            assert finding["value"] in line


def test_it_names_the_descriptors_that_a_run_may_have_and_not_the_soft_limit(doctor):
    found, status = doctor(before="ulimit -Sn 100; ulimit -Hn 3000")
    assert status == 0
    assert (found["descriptors"]["details"]["soft"], found["descriptors"]["details"]["hard"]) == (100, 3000)
    assert "about 2984 connections at once, and 371 at a time of commands" in found["descriptors"]["limits_to"]


@pytest.mark.parametrize("descriptors", [18, 19, 20])
def test_it_fails_where_a_command_cannot_be_started_for_want_of_descriptors_and_only_there(
    doctor, tmp_path, descriptors
):
    limit = f"ulimit -n {descriptors}"
    found, status = doctor(before=limit)
    run = f'{limit}; exec "$0" each -q -o "$1" true ::: x'
    done = subprocess.run(["bash", "-c", run, str(COMMAND), tmp_path / "r.jsonl"], check=False, capture_output=True)
    assert (done.returncode == 0) >= (status == 0)
    assert (found["descriptors"]["fails"] is not None) == (descriptors < 20)


def test_the_tightest_of_the_groups_binds_and_what_is_used_counts(doctor, container):
    container(pids_max=500, pids_current=100, memory_max=1 << 30, memory_current=1 << 29, cpu_max="max 100000")
    container("kubepods", pids_max=410, pids_current=400, memory_max="max", cpu_max="150000 100000")
    found, status = doctor("--root", container.root)
    assert status == 0
    assert found["processes"]["limits_to"] == "10 processes and threads"
    assert (found["processes"]["details"]["pids_max"], found["processes"]["details"]["pids_room"]) == (410, 10)
    assert found["memory"]["value"] == "512 MiB left of 1.00 GiB in the control group"
    assert found["processors"]["details"]["quota"] == 1.5
    assert found["names"]["details"]["nameservers"] == ["10.0.0.10", "10.0.0.11"]
    assert found["names"]["details"]["sources"] == "files dns myhostname"
    assert found["versions"]["details"]["linux"] == "6.1.0-of-the-container"


def test_it_fails_where_the_threads_of_a_run_cannot_be_started(doctor, container):
    container(pids_max=100, pids_current=97)
    found, status = doctor("--root", container.root)
    assert (status, found["processes"]["fails"]) == (1, "the threads of a run and a command cannot all be started")


def test_groups_without_bounds_and_no_groups_at_all_limit_nothing(doctor, container, tmp_path):
    container(pids_max="max", pids_current=3, memory_max="max", memory_current=4096, cpu_max="max 100000")
    (tmp_path / "empty").mkdir()
    for root in (container.root, tmp_path / "empty"):
        found, status = doctor("--root", root)
        assert status == 0
        assert found["memory"]["limits_to"] is None
        assert found["processes"]["details"]["pids_max"] is None
        assert found["processors"]["details"]["quota"] is None


def test_proxies_are_those_that_fetch_takes_and_no_password_is_shown(doctor):
    found, status = doctor(
        http_proxy="http://bob:hunter2@proxy:3128", HTTPS_PROXY="socks5://other:1080", no_proxy="localhost,.corp"
    )
    assert status == 0
    assert found["proxies"]["value"] == "http proxy:3128, https other:1080, except localhost,.corp"
    assert "hunter2" not in json.dumps(found)
    # As for curl, which a CGI program may not be told by its callers.
    assert doctor(HTTP_PROXY="http://proxy:3128")[0]["proxies"]["details"]["http"] is None


def test_a_proxy_of_no_use_fails_here_as_it_fails_a_fetch_and_its_password_is_not_shown(doctor, unisono, monkeypatch):
    found, status = doctor(https_proxy="ftp://bob:hunter2@proxy")
    assert status == 1
    assert "https_proxy is of no use" in found["proxies"]["fails"]
    assert "hunter2" not in json.dumps(found)
    monkeypatch.setenv("https_proxy", "ftp://bob:hunter2@proxy")
    assert unisono("fetch", "https://localhost/").returncode == 2


def test_certificates_that_are_named_and_cannot_be_used_are_found(doctor, tmp_path):
    (tmp_path / "none.pem").write_text("")
    (tmp_path / "empty").mkdir()
    found, status = doctor(SSL_CERT_FILE=str(tmp_path / "none.pem"), SSL_CERT_DIR=str(tmp_path / "empty"))
    assert status == 1
    assert "what is named is of no use" in found["certificates"]["fails"]


@pytest.mark.parametrize("folder", ["/nowhere/at/all", "/proc"])
def test_a_temporary_folder_that_nothing_can_be_written_to_fails(doctor, folder):
    found, status = doctor(TMPDIR=folder)
    assert status == 1
    assert found["temporary"]["fails"]


def test_it_names_the_python_that_it_was_installed_for(doctor):
    found, _ = doctor()
    assert found["versions"]["details"]["python"] == platform.python_version()
    assert found["versions"]["details"]["unisono"] == package.__version__
    assert found["versions"]["details"]["glibc"] == platform.libc_ver()[1]


def test_the_module_starts_it_as_well(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "unisono", "doctor"], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 10), done.stderr


def test_a_root_that_is_no_folder_is_refused(unisono, tmp_path):
    done = unisono("doctor", "--root", tmp_path / "none")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--root" in done.stderr
