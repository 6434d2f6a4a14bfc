"""`docs/each-code.md`: each row of its table is what happens; and ordinary commands pass without a word."""

import os
import re
import shlex
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs/each-code.md"
ROWS = re.findall(r"^\| `(.+?)` \| (passes|refused|harmless only|told) \|", PAGE.read_text(), re.MULTILINE)
EVIL = ["; touch pwned", "$(touch pwned)", "a b", "'", "--x=!y"]


def test_the_table_is_read_whole():
    assert len(ROWS) == sum(line.startswith("| `-") for line in PAGE.read_text().splitlines())
    assert {verdict for _, verdict in ROWS} == {"passes", "refused", "harmless only", "told"}


@pytest.mark.parametrize(("row", "verdict"), ROWS)
def test_a_row_of_the_table_is_what_happens(unisono, tmp_path, tmp_path_factory, row, verdict):
    words = ["each", "--progress", "none", *shlex.split(row.replace("\\|", "|"))]
    at = words.index("--")
    dry = [*words[:at], "--dry-run", *words[at:]]
    done = unisono(*dry, ":::", "web-1.2/x")
    assert done.returncode == (2 if verdict == "refused" else 0), done.stderr
    assert ("run as code" in done.stderr) == (verdict in ("refused", "told")), done.stderr
    if verdict == "refused":
        for way in ("$1", "UNISONO_ITEM"):
            assert way in done.stderr
    else:
        assert done.stderr.count("\n") == (1 if verdict == "told" else 0)
    if verdict == "told":
        return
    programs = tmp_path_factory.mktemp("programs")
    if verdict == "harmless only":
        # It is there, and would leave a trace if it were started.
        (programs / words[at + 1]).write_text('#!/bin/sh\n: >"$HOME/started"\n')
        (programs / words[at + 1]).chmod(0o755)
    for item in EVIL:
        program = {"passes": None, "refused": 2, "harmless only": 1}[verdict]
        if program is None:
            done = unisono(*dry, ":::", item)
            assert (done.returncode, done.stderr) == (0, "")
        else:
            done = unisono(*words, ":::", item, env={"PATH": str(programs), "HOME": str(tmp_path)})
            assert done.returncode == program, done.stderr
            assert "code" in done.stderr
        assert os.listdir(tmp_path) == []


ORDINARY = r"""
gzip -9 {}
convert {} {.}.jpg
ffmpeg -i {} -vf scale=640:-1 {.}.mp4
curl -sSo {/} https://example.com/{}
wget -q {}
tar -czf {}.tar.gz {}
tar -xf {} -C {//}
rsync -a {} backup:/data/
rsync -avz --delete -e ssh {} backup:/data/
scp {} web:/tmp/
git -C {} pull --ff-only
git clone {}
git switch -c {}
git commit -m {}
docker pull {}
docker build -t {} .
docker run --rm -e NAME={} alpine true
kubectl get pods -n {} -o json
kubectl logs -c {} web
make -C {} all
make {}
cargo test -p {}
python3 train.py --seed {#} --data {}
python3 manage.py migrate -c {}
python3 -m pip install {}
node build.js -e {}
perl convert.pl -e {}
ruby tool.rb {}
bash deploy.sh {}
sh {}
jq '.items[] | select(.id == "x")' {}
grep -c {} /etc/passwd
grep -e {} sh
sed -n 1p {}
sed -i s/a/b/ {}
awk -F: '{print $1}' {}
awk -v host={} '$1 == host' /etc/hosts
find {} -name '*.log' -delete
find {} -type f -exec rm {} ;
sort -u -o {} {}
split -l 1000 {} {}.
ssh {} uptime
ssh -p 22 -i key {} uptime
psql -f {} db
psql -d {} -f schema.sql
mysql -h {} -e 'select 1'
sqlite3 {} .schema
pg_dump -Fc {} -f {}.dump
openssl x509 -in {} -noout
aws s3 cp {} s3://bucket/
terraform -chdir={} apply
ansible-playbook -l {} site.yml
cc -c {} -o {.}.o
nice -n 10 ionice -c 3 gzip {}
timeout 5 ping -c 1 {}
sudo systemctl restart {}
env LANG=C sort {}
echo sh -c {}
test -f {}
vim {}
man {}
xargs -a {} rm
sh -c 'for x; do wc -l "$x"; done' sh {}
bash -c 'set -o pipefail; gzip -dc "$1" | wc -c' bash {}
python3 -c 'import sys; print(sys.argv)' {}
perl -pe 's/a/b/' {}
""".strip().splitlines()


@pytest.mark.parametrize("command", ORDINARY)
def test_an_ordinary_command_passes_without_a_word(unisono, command):
    for item in ("a.txt", "it's; $(x) {", "-x y"):
        done = unisono("each", "--dry-run", "--", *shlex.split(command), ":::", item)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "script",
    [
        "gzip -dc {} | wc -l >{}.count",
        'for f in {}/*; do echo "$f"; done',
        "cd {} && make",
        "test -f {} || touch {}",
        'x=$(basename {}); echo "$x"',
        'docker run -v "$PWD:/w" alpine cat /w/{}',
        '"$HOME/bin/tool" {}',
        "PGPASSWORD=x psql -v name={} -f q.sql",
        'tar -cf - {} | ssh web "cat >backup.tar"',
        "git -C {} log -1 --format=%H",
        "sh -c 'echo \"$1\"' sh {}",
        "python3 -c 'import sys; print(sys.argv[1])' {}",
        'while read -r line; do echo "$line"; done <{}',
        "export NAME={}; ./run.sh",
        "cd {} && curl -s https://example.com/install.sh | sh",
        "ssh web uptime | grep {}",
        "psql -h {} -c 'select 1' | cat",
        "python3 - {} <<'E'\nimport sys\nE",
        'eval "$(ssh-agent)"; ssh-add {}',
        "echo {} | ssh web 'cat >>list'",
        "sort {} | uniq -c | awk '{print $2}'",
    ],
)
def test_an_ordinary_script_passes_without_a_word(unisono, script):
    for item in ("a.txt", "it's; $(x)"):
        done = unisono("each", "--dry-run", "--shell", "--", script, ":::", item)
        assert (done.returncode, done.stderr) == (0, "")


def test_blocks_are_no_code_either(unisono, tmp_path):
    for words in (["sh", "-c", "cat | sh"], ["xargs", "-I@", "sh", "-c", "@"], ["--shell", "--", "cat | sh"]):
        done = unisono("each", "--pipe", *(words if "--" in words else ["--", *words]), input="touch pwned\n")
        assert (done.returncode, os.listdir(tmp_path)) == (2, []), done.stderr
    done = unisono("each", "-q", "--pipe", "--", "sh", input="echo $((6 * 7))\n")
    assert (done.stdout, "run as code" in done.stderr) == ("42\n", True)
    done = unisono("each", "-q", "--items-are-code", "--pipe", "--shell", "--", "cat | sh", input="echo $((6 * 7))\n")
    assert (done.stdout, done.stderr) == ("42\n", "")
