#!/usr/bin/env python3
"""Refuses an include of a module that was not declared as a dependency, and outside headers where they do not belong.

    tools/checks/includes.py BUILD_DIR

CMake writes BUILD_DIR/modules.txt: one line a module, name|layer|group|folder|dependencies|proto|files|files compiled alone.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
INCLUDE = re.compile(r'^\s*#\s*include\s+(["<])([^">]+)[">]', re.M)


def read_modules(build: pathlib.Path) -> dict[str, dict]:
    modules = {}
    for line in (build / "modules.txt").read_text().splitlines():
        name, layer, group, folder, deps, proto, sources, _ = line.split("|")
        modules[name] = {"layer": int(layer), "group": group, "folder": pathlib.Path(folder), "deps": set(filter(None, deps.split(","))),
                         "proto": proto == "TRUE", "sources": list(filter(None, sources.split(",")))}
    return modules


def reachable(modules: dict[str, dict], name: str) -> set[str]:
    seen, todo = set(), [name]
    while todo:
        for dep in modules[todo.pop()]["deps"]:
            if dep in modules and dep not in seen:
                seen.add(dep)
                todo.append(dep)
    return seen


def module_of_folder(modules: dict[str, dict], path: pathlib.Path) -> str | None:
    """The module in whose folder a file stands that no module lists (a kernel's parameters, a generated table)."""
    homes = [(len(m["folder"].parts), name) for name, m in modules.items() if m["folder"] in path.parents]
    return max(homes)[1] if homes else None


def check(modules: dict[str, dict], build: pathlib.Path) -> list[str]:
    owner = {}
    for name, module in modules.items():
        for source in module["sources"]:
            path = (module["folder"] / source).resolve()
            if build not in path.parents:  # generated code includes what it likes
                owner[path] = name
    errors = []
    for path, name in sorted(owner.items()):
        module = modules[name]
        where = path.relative_to(ROOT).as_posix()
        for quote, target in INCLUDE.findall(path.read_text(encoding="utf-8", errors="replace")):
            if re.search(r"\.pb\.h$", target) and not module["proto"]:
                errors.append(f"{where}: includes {target}, but module '{name}' is no edge (PROTO)")
            if target.startswith("vulkan/") and module["group"] != "gpu-worker":
                errors.append(f"{where}: includes {target}: Vulkan headers stand only in gpu-worker")
            if target.startswith("xrt/") and module["group"] != "npu-worker":
                errors.append(f"{where}: includes {target}: XRT headers stand only in npu-worker")
            if quote != '"' or target.endswith(".pb.h"):
                continue
            wanted = (ROOT / target).resolve()
            if not wanted.exists():
                continue  # generated
            other = owner.get(wanted) or module_of_folder(modules, wanted)
            if other is None:
                errors.append(f"{where}: includes {target}, which stands in no module")
            elif other != name and other not in reachable(modules, name):
                errors.append(f"{where}: includes {target} of module '{other}', which '{name}' does not declare in DEPS")
    return errors


def main() -> int:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    build = pathlib.Path(sys.argv[1]).resolve()
    modules = read_modules(build)
    errors = check(modules, build)
    print("\n".join(errors) if errors else f"includes: {len(modules)} modules, nothing to say")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
