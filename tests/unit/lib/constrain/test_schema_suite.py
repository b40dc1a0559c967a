"""The public JSON-Schema-Test-Suite against the grammars that schemas become.

  test_schema_suite.py SCHEMA_PROBE [--archive FILE] [--table]

Each schema is either refused, with a reason, or becomes a grammar. No grammar may match a text that
is not valid: that count must be zero. A valid text that is not matched is "narrower": the grammar
says less than the schema (json_schema.h names how). The suite comes with the source package of
jsonschema, from PyPI, pinned by its hash; where that cannot be reached the exit code is 77.
"""
import argparse
import collections
import hashlib
import json
import pathlib
import re
import subprocess
import sys
import tarfile
import tempfile

PACKAGE = "jsonschema==4.23.0"
SHA256 = "d71497fef26351a33265337fa77ffeb82423f3ea21283cd9467bb03999266bc4"
DRAFTS = ("draft2020-12", "draft7")
# Formats are remarks in the standard unless a validator is told otherwise; these are enforced here.
OPTIONAL = ("optional/format/date.json", "optional/format/time.json", "optional/format/date-time.json", "optional/format/uuid.json",
            "optional/format/duration.json", "optional/format/ipv4.json", "optional/format/ipv6.json", "optional/format/hostname.json",
            "optional/format/email.json", "optional/format/uri.json", "optional/ecmascript-regex.json", "optional/non-bmp-regex.json",
            "optional/bignum.json", "optional/float-overflow.json")


def fetch(folder):
    """The suite's archive, or None."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-binary", "jsonschema",
               "--dest", folder, PACKAGE]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=240)
    except subprocess.TimeoutExpired:
        return None
    if result.returncode != 0:
        print(result.stderr.strip()[-300:])
        return None
    return next(pathlib.Path(folder).glob("jsonschema-*.tar.gz"))


def cases(archive):
    """(draft, file, group) of every group of tests."""
    data = archive.read_bytes()
    if hashlib.sha256(data).hexdigest() != SHA256:
        sys.exit(f"{archive}: expected the SHA-256 {SHA256}")
    with tarfile.open(archive) as tar:
        for member in tar:
            found = re.match(r"[^/]+/json/tests/([^/]+)/(.+\.json)$", member.name)
            if not found or found[1] not in DRAFTS or ("/" in found[2] and found[2] not in OPTIONAL):
                continue
            for group in json.load(tar.extractfile(member)):
                yield found[1], found[2], group


def text_of(value):
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        text = json.dumps(value)
    return text


class Tally:
    def __init__(self):
        self.schemas = self.refused = self.tests = self.right = self.narrower = 0
        self.wrong = []


def judge(probe, groups):
    tallies = collections.defaultdict(Tally)
    reasons = collections.Counter()
    process = subprocess.Popen([probe], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    for draft, name, group in groups:
        question = {"schema": json.dumps(group["schema"]), "texts": [text_of(test["data"]) for test in group["tests"]]}
        process.stdin.write(json.dumps(question) + "\n")
        process.stdin.flush()
        answer = json.loads(process.stdout.readline())
        tally = tallies[draft]
        tally.schemas += 1
        if "refused" in answer:
            tally.refused += 1
            reasons[re.sub(r"#\S*", "#", answer["refused"])] += 1
            continue
        for test, matches in zip(group["tests"], answer["matches"]):
            tally.tests += 1
            if matches and not test["valid"]:
                tally.wrong.append(f"{draft}/{name}: {group['description']}: {test['description']}: {text_of(test['data'])} for {json.dumps(group['schema'])}")
            elif test["valid"] and not matches:
                tally.narrower += 1
            else:
                tally.right += 1
    process.stdin.close()
    if process.wait() != 0:
        sys.exit(f"the probe ended with {process.returncode}")
    return tallies, reasons


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("probe")
    parser.add_argument("--archive", type=pathlib.Path)
    parser.add_argument("--table", action="store_true", help="print why schemas were refused, too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        archive = options.archive or fetch(folder)
        if archive is None:
            print("skipped: PyPI is not reachable")
            return 77
        tallies, reasons = judge(options.probe, cases(archive))
    print("| draft | schemas | accepted | refused in words | tests of accepted ones | as the suite says | narrower | wrong |")
    print("|---|---|---|---|---|---|---|---|")
    wrong = []
    for draft, tally in sorted(tallies.items()):
        accepted = tally.schemas - tally.refused
        print(f"| {draft} | {tally.schemas} | {accepted} ({100 * accepted / tally.schemas:.0f} %) | {tally.refused} | {tally.tests} | {tally.right} | "
              f"{tally.narrower} | {len(tally.wrong)} |")
        wrong += tally.wrong
    if options.table:
        for reason, count in reasons.most_common():
            print(f"{count:5d} {reason}")
    for line in wrong:
        print("WRONG", line)
    if len(tallies) != len(DRAFTS):
        print(f"expected tests of {DRAFTS}, found {sorted(tallies)}")
        return 1
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
