"""The Dockerfile, and the manifests of docs/containers.md.

Docker need not be here. Each stage is this machine's own root under a layer of its own (overlayfs), in which the steps run as they are
written. So these are not covered: what the base images hold, what comes over the network (`apt-get`, `rustup`, what `pip wheel` installs to
build with), and the two compilations, in whose place programs of the same name hand over what has been compiled here: the wheel that is
installed, and `unisono-init`, linked dynamically. That the context is whole is proven by cargo and pip reading it without them.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from support.installed import COMMAND

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/containers.md").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def instructions():
    """Each instruction of the Dockerfile with its words, continued lines joined."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE).replace("\\\n", "")
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line]


def stages():
    found = []
    for name, words in instructions():
        if name == "FROM":
            found.append((words, []))
        else:
            found[-1][1].append((name, words))
    return found


def context(folder):
    """What is sent to a build, by the rules of `.dockerignore` that ours has: all is left out but what has a mark, less what follows."""
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert rules[0] == "*"
    taken = [rule[1:] for rule in rules if rule.startswith("!")]
    left_out = [rule for rule in rules[1:] if not rule.startswith("!")]
    listed = subprocess.run(
        ["git", "ls-files", "-z", "-co", "--exclude-standard", "--", *taken], cwd=ROOT, capture_output=True, check=True
    )
    for name in listed.stdout.decode().split("\0")[:-1]:
        if (ROOT / name).exists() and not any(Path(name).is_relative_to(rule) for rule in left_out):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    assert all((folder / name).exists() for name in taken)
    return folder


def test_every_base_is_pinned_by_its_tag_and_only_steps_that_are_tried_here_occur():
    names = [words.split(" AS ")[0] for name, words in instructions() if name == "FROM"]
    names += [name for _, words in instructions() for name in re.findall(r"--from=(\S+:\S+)", words)]
    assert names
    assert all(re.fullmatch(r"[\w/]+:\d[\w.-]*", name) for name in names)
    assert {name for name, _ in instructions()} == {
        "FROM",
        "COPY",
        "ENV",
        "RUN",
        "WORKDIR",
        "USER",
        "ENTRYPOINT",
        "CMD",
    }


def test_the_rust_that_builds_it_is_the_one_that_the_workspace_asks_for():
    rust = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["rust-version"]
    assert set(re.findall(r"rust:([\d.]+)", DOCKERFILE)) == {rust}


def test_the_image_has_no_compiler_and_does_not_run_as_root():
    _, steps = stages()[-1]
    assert not any(re.search(r"apt-get|cargo|gcc", words) for _, words in steps)
    [user] = [words for name, words in steps if name == "USER"]
    assert user.isdigit()
    assert int(user) > 0


def test_the_context_is_all_that_cargo_and_the_build_backend_read(tmp_path):
    folder = context(tmp_path / "context")
    subprocess.run(
        ["cargo", "metadata", "--locked", "--offline", "--format-version=1"],
        cwd=folder,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    code = "import sys; sys.path.insert(0, 'python/build'); import unisono_build; unisono_build.prepare_metadata_for_build_wheel(sys.argv[1])"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    (tmp_path / "metadata").mkdir()
    subprocess.run(
        [sys.executable, "-c", code, tmp_path / "metadata"], cwd=folder, check=True, env={**os.environ, "PATH": path}
    )
    assert not (folder / "tests").exists()
    assert not (folder / "target").exists()


# Programs in the place of those that need the network or minutes. Each checks what it is asked for.
STAND_INS = {
    "apt-get": 'case "$1" in update | install) ;; *) exit 1 ;; esac',
    "rustup": '[ "$1 $2" = "target add" ]',
    "pip": 'if [ "$1" = wheel ]; then [ -e pyproject.toml ] && mkdir -p /wheels && cp /stand-ins/*.whl /wheels; else exec {python} -m pip "$@"; fi',
    "cargo": '[ "$*" = "build --locked --profile small -p unisono-init --target $(uname -m)-unknown-linux-musl" ] && [ -e Cargo.lock ] '
    '&& mkdir -p "target/$8/small" && cp /stand-ins/unisono-init "target/$8/small/"',
}

# A stage: the machine's root below, what its steps make above. Left with the process, in a namespace of mounts of its own.
IN_A_LAYER = """
set -eu
layer=$1 words=$2
mkdir -p "$layer/upper" "$layer/work" "$layer/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$layer/upper,workdir=$layer/work" "$layer/root"
mount --bind /proc "$layer/root/proc"
mount --bind /dev "$layer/root/dev"
exec chroot $words "$layer/root" /bin/sh -ec "$3"
"""


@pytest.fixture
def layers(tmp_path):
    """Room for layers, and a way to run a script in one; overlayfs takes no layer that lies on an overlay itself."""
    if os.geteuid() != 0:
        pytest.skip("layers are mounted for this: run as root")
    room = tmp_path / "layers"
    room.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", room], check=True)

    def run(name, script, *, chroot=""):
        words = ["unshare", "--mount", "sh", "-c", IN_A_LAYER, "sh", room / name, chroot, script]
        return subprocess.run(
            words, capture_output=True, text=True, check=False, timeout=300, env={"PATH": os.environ["PATH"]}
        )

    run.upper = lambda name: room / name / "upper"
    yield run
    subprocess.run(["umount", room], check=True)


@pytest.fixture
def compiled():
    """What was compiled before: `make installed` leaves the wheel, `make test` builds the first process."""
    wheels = list(Path(sys.prefix, "wheel").glob("*.whl"))
    init = ROOT / "target/small/unisono-init"
    if not wheels or not init.exists():
        pytest.skip(
            "there is no wheel, or no unisono-init: make .venv/installed; cargo build --profile small -p unisono-init"
        )
    return [*wheels, init]


def copy(words, layers, name, here, build_context):
    """COPY, from the context or from a stage."""
    *options, source, target = words.split()
    origin = build_context
    for option in options:
        stage = option.removeprefix("--from=")
        if ":" in stage:
            return  # Out of an image, which is not here.
        origin = layers.upper(stage)
    # What the stage before has taken away or lacks fails here, as it would there.
    shutil.copytree(
        origin / source.lstrip("/"), layers.upper(name) / str(Path(here, target)).lstrip("/"), dirs_exist_ok=True
    )


def test_its_steps_run_and_leave_a_first_process_a_command_and_a_package(tmp_path, layers, compiled):
    build_context = context(tmp_path / "context")
    for number, (words, steps) in enumerate(stages()):
        name = words.split(" AS ")[1] if " AS " in words else "last"
        here, environment = "/", {}
        stand_ins = layers.upper(name) / "stand-ins"
        stand_ins.mkdir(parents=True)
        for program, script in STAND_INS.items():
            (stand_ins / program).write_text("#!/bin/sh\n" + script.replace("{python}", sys._base_executable) + "\n")
            (stand_ins / program).chmod(0o755)
        if number == 0:
            for path in compiled:
                shutil.copy2(path, stand_ins)
        for instruction, words in steps:
            if instruction == "WORKDIR":
                here = words
                (layers.upper(name) / here.lstrip("/")).mkdir(parents=True, exist_ok=True)
            elif instruction == "COPY":
                copy(words, layers, name, here, build_context)
            elif instruction == "ENV":
                environment |= dict(word.split("=", 1) for word in shlex.split(words))
            elif instruction == "RUN":
                exported = "".join(f"export {key}={shlex.quote(value)}\n" for key, value in environment.items())
                done = layers(name, f"{exported}export PATH=/stand-ins:$PATH\ncd {here}\n{words}")
                assert done.returncode == 0, (words, done.stderr)

    run = {name: json.loads(words) for name, words in stages()[-1][1] if name in ("ENTRYPOINT", "CMD")}
    user = dict(stages()[-1][1])["USER"]
    path = "export PATH=/usr/local/bin:/usr/bin:/bin; cd /home/unisono;"
    done = layers("last", f"{path} {shlex.join(run['ENTRYPOINT'] + run['CMD'])}", chroot=f"--userspec={user}:{user}")
    assert done.returncode == 0, done.stderr
    assert "Usage: unisono <COMMAND>" in done.stdout
    done = layers(
        "last",
        f"{path} unisono-init -- unisono each -q -o r.jsonl sh -c 'id -u' ::: x",
        chroot=f"--userspec={user}:{user}",
    )
    assert done.returncode == 0, done.stderr
    line = json.loads((layers.upper("last") / "home/unisono/r.jsonl").read_text())
    assert (line["outcome"], line["stdout"]) == ("ok", f"{user}\n")
    packages = layers.upper("last") / "usr/local/lib/python{}.{}/site-packages/unisono".format(*sys.version_info)
    assert (packages / "__init__.py").exists()
    # What it was built from stays behind.
    assert not (layers.upper("last") / "src").exists()
    assert not (layers.upper("last") / "wheels").exists()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def pods():
    """Every pod of a manifest on the page, and the kind of what makes it."""
    for block in blocks("yaml"):
        for document in yaml.safe_load_all(block):
            spec = document["spec"]
            spec = spec["jobTemplate"]["spec"] if document["kind"] == "CronJob" else spec
            if "template" in spec:
                yield document["kind"], spec["template"]["spec"]


def test_every_manifest_is_what_it_says_and_no_pod_is_killed_before_its_grace_is_over():
    kinds = [kind for kind, _ in pods()]
    assert kinds == ["Deployment", "Job", "CronJob"]
    for _, pod in pods():
        graces = [
            int(seconds)
            for container in pod["containers"]
            for seconds in re.findall(r"--grace[= ](\d+)s", str(container).replace("', '", " "))
        ]
        assert graces == sorted(graces, reverse=True)
        assert graces[0] < pod["terminationGracePeriodSeconds"]
        mounted = {mount["name"] for container in pod["containers"] for mount in container.get("volumeMounts", [])}
        assert mounted == {volume["name"] for volume in pod.get("volumes", [])}


@pytest.mark.parametrize("kind", ["Job", "CronJob"])
def test_the_command_of_a_job_runs_as_it_is_written_and_goes_on_where_it_was(tmp_path, server, lines, kind):
    [pod] = [pod for one, pod in pods() if one == kind]
    [container] = pod["containers"]
    for name in ("input", "results", "bin"):
        (tmp_path / name).mkdir()
    (tmp_path / "input/calls.jsonl").write_text(
        "".join(json.dumps({"url": f"{server.url}/items/{n}"}) + "\n" for n in range(5))
    )
    (tmp_path / "bin/unisono").symlink_to(COMMAND)
    (tmp_path / "bin/unisono-init").write_text(f'#!/bin/sh\nexec "{COMMAND}" init "$@"\n')
    (tmp_path / "bin/unisono-init").chmod(0o755)
    words = [
        re.sub(r"(?<![\w/])/(input|results)/", rf"{tmp_path}/\1/", word)
        for word in container["command"] + container["args"]
    ]
    environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    for _ in range(2):
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=60, check=False, env=environment, cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
        [results] = (tmp_path / "results").glob("*.jsonl")
        assert [line["outcome"] for line in lines(results)] == ["ok"] * 5
    assert len(server.paths()) == 5


def test_the_units_are_ones_that_systemd_takes_and_start_a_command_that_runs(tmp_path, server, unisono):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not here (apt-get install systemd)")
    service, timer = blocks("ini")
    (tmp_path / "orders.service").write_text(service.replace("/usr/local/bin/unisono", str(COMMAND)))
    (tmp_path / "orders.timer").write_text(timer)
    done = subprocess.run(
        ["systemd-analyze", "verify", tmp_path / "orders.service", tmp_path / "orders.timer"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, [line for line in done.stderr.splitlines() if "orders" in line]) == (0, []), done.stderr
    (tmp_path / "calls.jsonl").write_text(json.dumps({"url": f"{server.url}/items/1"}) + "\n")
    [start] = re.findall(r"^ExecStart=\S+ (.*)$", service, re.MULTILINE)
    words = start.replace("/etc/orders", str(tmp_path)).replace("${STATE_DIRECTORY}", str(tmp_path)).split()
    assert unisono(*words).returncode == 0
    stops = int(re.search(r"TimeoutStopSec=(\d+)", service)[1])
    assert int(re.search(r"--grace (\d+)s", start)[1]) < stops
