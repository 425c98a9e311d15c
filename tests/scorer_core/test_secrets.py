"""Secrets are hidden; ordinary configuration and code stay as they are."""

import json
import shlex

import pytest

from scorer_core.support.secrets import MASK, is_secret, mask, mask_words, secret_lines
from tests.fake_secrets import fake

HIDDEN = r"""
WANDB¦_API_KEY=S3CRET
export HF¦_TOKEN="S3CRET"
HF¦_TOKEN: S3CRET
AWS¦_SECRET_ACCESS_KEY=S3CRET/a+b
AWS¦_SESSION_TOKEN='S3CRET'
A¦WS_ACCESS_KEY_ID=S3CRET
S¦CORER_STORAGE=postgresql¦://me:S3CRET@h/db
postgresql¦://me:S3CRET@h/db
postgresql¦://me:p@S3CRET@h:5432/db?sslmode=require
postgresql¦://me:a/S3CRET@h/db
https://h/db?t¦oken=S3CRET&a=b
sqlite:///x.db?¦key=S3CRET
mysql://h/db?p¦assword=S3CRET
mysql://h/db?p¦wd=S3CRET
pg://h/db?¦options=-c x=S3CRET
host=h p¦assword=S3CRET user=me
"a¦pi_key": "S3CRET",
{'t¦oken': 'S3CRET'}
+t¦oken = "S3CRET"
+    t¦oken: str = "S3CRET"
+    self.p¦assword: str | None = 'S3CRET'
os.environ["HF¦_TOKEN"] = "S3CRET"
login -¦-token S3CRET
login --a¦pi-key=S3CRET
Authorization: Bearer¦ S3CRETabc
curl -H 'A¦uthorization: token S3CRET'
g¦hp_S3CRET16C7e42F292c6912E7
s¦k-proj-S3CRETabcdefgh
h¦f_S3CRETabcdefgh
A¦KIAS3CRETAMPLE12345
-¦----BEGIN RSA PRIVATE KEY-----\nS3CRETS3CRET\n-----END RSA PRIVATE KEY-----
PGP¦ASSWORD=S3CRET
p¦assword = S3CRET
authT¦oken: S3CRET
DB¦_PASS=S3CRET
h¦ttps://S3CRETS3CRETS3CRETS3CRET@github.com/x
command: run --p¦assword=S3CRET
client-s¦ecret: S3CRET
export X¦_TOKEN='it'"'"'S3CRET'
GOOGLE¦_CREDENTIALS=S3CRET
p¦assword: "S3CRET with space"
--export=ALL,WANDB¦_API_KEY=S3CRET
#SBATCH --comment='p¦assword=S3CRET'
t¦oken='S3CRET'
login(t¦oken="S3CRET", b=1)
postgresql¦://me:S3CRET@[::1]:5432/db
"""
KEPT = r"""
token_ring: 5
key: value
tokenizer: bert
tokenizer = AutoTokenizer.from_pretrained("x")
max_tokens: 512
pad_token = "<pad>"
token = tokens[i]
password = getpass.getpass()
password: str
def f(password: str | None = None, token: int = 3):
token = os.environ["HF_TOKEN"]
sort_key = "name"
monkey = "x"
author: me
PWD=/home/me
http://host:8080/a?email=a@b.c
key = jax.random.key(0)
git@github.com:me/repo.git
ssh://git@github.com/me/x
task-specific-network-2
f(token=token, password=self.password)
auth: true
partition: gpu
12:00:00
sk-learn
keys = ["a"]
if token == "(":
hf_transformers
export PATH=/usr/bin:$PATH
HF_TOKEN=$HF_TOKEN
HF_TOKEN=${HF_TOKEN}
it may hold a password: read it from the environment
"""


@pytest.mark.parametrize("text", HIDDEN.strip().splitlines())
def test_a_secret_is_hidden(text):
    text = fake(text).replace("\\n", "\n")
    assert "S3CRET" in text
    masked = mask(text)
    assert "S3CRET" not in masked
    assert MASK in masked
    assert mask(masked) == masked
    assert masked.count("\n") == text.count("\n")


@pytest.mark.parametrize("text", KEPT.strip().splitlines())
def test_ordinary_text_is_not_changed(text):
    assert mask(text) == text


def test_the_rest_of_a_line_is_kept():
    assert mask(fake("export WANDB¦_API_KEY=abc; module load cuda")) == "export WANDB_API_KEY=***; module load cuda"
    assert mask(fake("storage postgresql¦://me:p@q@h/db: no answer")) == "storage postgresql://me:***@h/db: no answer"
    assert mask(fake('f(t¦oken="abc", steps=5)')) == 'f(token="***", steps=5)'
    assert mask(fake('+p¦assword = "abc"  # note')) == '+password = "***"  # note'


QUOTED_LINES = """
export FOO¦_TOKEN=S3CRET
export FOO¦_TOKEN='S3CRET'
export FOO¦_TOKEN="S3CRET"
export FOO¦_TOKEN='S3"CRET' && true
curl -¦-token S3CRET
curl -¦-token 'S3CRET' https://host
bash -c "export FOO¦_TOKEN='S3CRET'"
"""


@pytest.mark.parametrize("line", QUOTED_LINES.strip().splitlines())
def test_a_line_that_is_quoted_for_a_shell_or_for_json_is_as_balanced_after_masking(line):
    line = fake(line)
    masked = mask(f"check $? 1 {shlex.quote(line)} && echo 'end'")
    assert "S3CRET" not in masked
    assert shlex.split(masked)[-1] == "end"
    masked = mask(json.dumps({"setup": [line], "end": 1}))
    assert "S3CRET" not in masked
    assert json.loads(masked)["end"] == 1


def test_a_quote_that_belongs_to_a_secret_is_hidden_with_it():
    assert mask(fake("P¦ASSWORD=it's")) == "PASSWORD=***"
    assert mask("bash -c 'export HF_TOKEN=$TOKEN'") == "bash -c 'export HF_TOKEN=$TOKEN'"


def test_the_value_after_an_option_with_a_secret_name_is_hidden():
    assert mask_words(["run", "--token", "abc", "--steps", "5"]) == ["run", "--token", "***", "--steps", "5"]
    assert mask_words([fake("--a¦pi-key=abc"), "--lanes", "3"]) == ["--api-key=***", "--lanes", "3"]


def test_the_lines_with_a_secret_are_numbered_from_1():
    assert secret_lines(fake("a = 1\nt¦oken = 'abc'\nb = 2\nHF¦_TOKEN=x")) == [2, 4]


def test_names_of_secrets_are_known_and_others_are_not():
    for name in ("WANDB_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "SCORER_STORAGE", "PGPASSWORD", "MYSQL_PWD"):
        assert is_secret(name), name
    for name in ("PWD", "TOKENIZERS_PARALLELISM", "OMP_NUM_THREADS", "SSH_AUTH_SOCK", "GIT_AUTHOR_NAME", "key"):
        assert not is_secret(name), name


@pytest.mark.parametrize(
    "unit",
    [fake("t¦oken=x'"), "a", "a:", "https://", "'", fake("t¦oken="), "-----BEGIN PRIVATE KEY-----", "?key=", "a.b:c@"],
)
def test_a_long_line_takes_linear_time(unit):
    """In quadratic time, these 100,000 characters take minutes."""
    mask(unit * (100_000 // len(unit)))
