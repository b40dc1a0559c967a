#!/usr/bin/env python3
"""Refuses what a unity build would: two files of a module with the same name for different things in their unnamed namespaces.

    tools/checks/names.py BUILD_DIR

For those whose own builds compile each file by itself (ccache). Reads modules.txt, as includes.py does. A first look at lines that begin a
declaration, no compiler: what it misses, a build without ccache finds.
"""
import collections
import pathlib
import re
import sys

UNNAMED = re.compile(r"^namespace \{\n(.*?)^\}  // namespace$", re.M | re.S)
TYPE = re.compile(r"(?:struct|class|enum class|enum|union) (\w+)")
ALIAS = re.compile(r"(?:using|namespace) (\w+) = (.*);")
CONSTANT = re.compile(r"(?:inline )?const(?:expr|init)? [\w:<>, ]+? (\w+)(?:\[.*?\])? ?(?:=|\{|;)")
FUNCTION = re.compile(r"[\w:<>,&* ]+?\b(\w+)\((.*)\) \{$")


def declared(text: str) -> dict[str, str]:
    """name -> what it is; files may share a name only for what is the same alias, or for functions that differ in their parameters."""
    names = {}
    for body in UNNAMED.findall(text):
        for line in body.split("\n"):
            if not line or line[0] in " }/#)":
                continue
            if found := ALIAS.match(line):
                names[found[1]] = "alias of " + found[2]
            elif found := TYPE.match(line):
                names[found[1]] = "type"
            elif found := CONSTANT.match(line):
                names[found[1]] = "constant"
            elif found := FUNCTION.match(line):
                parameters = ", ".join(re.sub(r"\s*\b\w+$", "", part) for part in found[2].split(", "))
                names[f"{found[1]}({parameters})"] = "function"
    return names


def check(build: pathlib.Path) -> list[str]:
    errors = []
    for line in (build / "modules.txt").read_text().splitlines():
        name, _, _, folder, _, _, sources, alone = line.split("|")
        together = [s for s in sources.split(",") if s.endswith(".cc") and s not in alone.split(",")]
        seen = collections.defaultdict(list)
        for source in together:
            path = pathlib.Path(folder) / source
            if not path.exists():  # generated
                continue
            for what, kind in declared(path.read_text(encoding="utf-8")).items():
                seen[what].append((kind, source))
        for what, places in seen.items():
            kinds = {kind for kind, _ in places}
            if len(places) > 1 and not (len(kinds) == 1 and next(iter(kinds)).startswith("alias of")):
                files = " and ".join(source for _, source in places)
                errors.append(f"module '{name}': {what} stands in {files}: give one of them a better name, or write the file after ALONE")
    return errors


def main() -> int:
    errors = check(pathlib.Path(sys.argv[1]).resolve())
    print("\n".join(errors) if errors else "names: nothing to say")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
