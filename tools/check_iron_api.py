#!/usr/bin/env python3
"""Checks the NPU's designs against a checkout of mlir-aie, whose compiler need not be there.

    tools/check_iron_api.py FOLDER [--designs npu-worker/kernels/designs]

FOLDER is a checkout of https://github.com/Xilinx/mlir-aie. Two checks:

1. By syntax: every name that a design imports from aie exists there, and every call of a class, a function or a method of IRON fits its signature. Where
   a receiver's class cannot be told, some class of IRON has to take the call.
2. By running: each design runs through IRON's own Python, with everything stubbed that comes from its compiler (aie.ir, the dialects). So IRON's checks
   of what it is given run for real, the program is walked as if to print it, and what the streams add up to is looked at: DMA channels and bytes of every
   tile. Needs numpy.

Not checked so: MLIR's verifier, routing, placement, the cores' compiler. The exit status is 0 where nothing is wrong.
"""
import argparse
import ast
import builtins
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
IRON = "aie.iron"
# Methods of what is not IRON's: lists, dictionaries, parsers.
OTHER_METHODS = {name for kind in (list, dict, str, set) for name in dir(kind)} | {"add_argument", "parse_args"}


class Checkout:
    """What python/iron of a checkout defines."""

    def __init__(self, folder: pathlib.Path):
        self.root = folder / "python"
        self.trees: dict[str, ast.Module] = {}
        for path in sorted((self.root / "iron").rglob("*.py")):
            parts = ["aie", *path.relative_to(self.root).with_suffix("").parts]
            self.trees[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = ast.parse(path.read_text())
        self.packages = {n for n in self.trees if (self.root.joinpath(*n.split(".")[1:]) / "__init__.py").is_file()}
        self.classes = [node for tree in self.trees.values() for node in tree.body if isinstance(node, ast.ClassDef)]

    def find(self, module: str, name: str):
        """The definition behind a name of a module, or None. Names of devices are made from a list when IRON is imported."""
        tree = self.trees.get(module)
        for node in tree.body if tree else []:
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name == name:
                return node
            if isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    if (alias.asname or alias.name) == name:
                        return self.find(self.origin(module, node), alias.name)
        if module == f"{IRON}.device" and name in self.devices():
            return ast.parse(f"class {name}:\n    def __init__(self): pass").body[0]
        return None

    def origin(self, module: str, node: ast.ImportFrom) -> str:
        if node.level == 0:
            return node.module
        parts = module.split(".")
        parts = parts[:len(parts) - node.level + (1 if module in self.packages else 0)]
        return ".".join(parts + ([node.module] if node.module else []))

    def devices(self) -> set[str]:
        for node in self.trees[f"{IRON}.device"].body:
            if isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") == "_NAME_TO_BASE":
                return set(ast.literal_eval(node.value).values())
        return set()

    def methods(self, name: str) -> list[tuple[str, ast.FunctionDef]]:
        return [(c.name, f) for c in self.classes for f in c.body if isinstance(f, ast.FunctionDef) and f.name == name]


def misfit(function: ast.FunctionDef, call: ast.Call, bound: bool) -> str:
    """What of a call does not fit, or an empty text. `bound`: the first parameter is the receiver."""
    parameters = function.args
    positional = [a.arg for a in parameters.posonlyargs + parameters.args][1 if bound else 0:]
    keyword_only = [a.arg for a in parameters.kwonlyargs]
    starred = any(isinstance(a, ast.Starred) for a in call.args) or any(k.arg is None for k in call.keywords)
    if len(call.args) > len(positional) and parameters.vararg is None:
        return f"{len(call.args)} arguments by place, of at most {len(positional)}"
    given = set(positional[:len(call.args)])
    for keyword in filter(None, (k.arg for k in call.keywords)):
        if keyword in given:
            return f"'{keyword}' given twice"
        if keyword not in positional + keyword_only and parameters.kwarg is None:
            return f"no argument '{keyword}'"
        given.add(keyword)
    required = positional[:len(positional) - len(parameters.defaults)]
    required += [name for name, default in zip(keyword_only, parameters.kw_defaults) if default is None]
    missing = [name for name in required if name not in given]
    return f"'{missing[0]}' is missing" if missing and not starred else ""


class Design(ast.NodeVisitor):
    """Looks at one design's source; what is wrong with it gathers in `errors`."""

    def __init__(self, path: pathlib.Path, checkout: Checkout):
        self.path, self.checkout = path, checkout
        self.errors: list[str] = []
        self.imported: dict[str, ast.AST] = {}
        self.modules: set[str] = set()
        self.checked = 0
        tree = ast.parse(path.read_text())
        self.own = {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
        self.visit(tree)

    def wrong(self, node: ast.AST, what: str) -> None:
        self.errors.append(f"{self.path.name}:{node.lineno}: {what}")

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self.modules.add(alias.asname or alias.name)
            if alias.name.split(".")[0] == "aie" and alias.name not in self.checkout.trees:
                self.wrong(node, f"no module {alias.name}")

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if (node.module or "").split(".")[0] != "aie":
            return
        for alias in node.names:
            found = self.checkout.find(node.module, alias.name)
            self.checked += 1
            if found is None:
                self.wrong(node, f"no {alias.name} in {node.module}")
            else:
                self.imported[alias.asname or alias.name] = found

    def visit_Call(self, node: ast.Call) -> None:
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id in self.imported:
            self.check_function(node, node.func.id, self.imported[node.func.id])
        elif isinstance(node.func, ast.Attribute) and not (isinstance(node.func.value, ast.Name) and node.func.value.id in self.modules):
            self.check_method(node, node.func.attr)

    def check_function(self, node: ast.Call, name: str, found: ast.AST) -> None:
        self.checked += 1
        bound = isinstance(found, ast.ClassDef)
        if bound:
            found = next((f for f in found.body if isinstance(f, ast.FunctionDef) and f.name == "__init__"), None)
        what = misfit(found, node, bound) if found is not None else ""
        if what:
            self.wrong(node, f"{name}: {what}")

    def check_method(self, node: ast.Call, name: str) -> None:
        candidates = self.checkout.methods(name)
        if not candidates:
            if name not in OTHER_METHODS and name not in self.own and not hasattr(builtins, name):
                self.wrong(node, f"no class of IRON has a method {name}")
            return
        self.checked += 1
        misfits = [f"{kind}.{name}: {misfit(function, node, True)}" for kind, function in candidates if misfit(function, node, True)]
        if len(misfits) == len(candidates) and name not in OTHER_METHODS:
            self.wrong(node, "; ".join(misfits))


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--designs", type=pathlib.Path, default=ROOT / "npu-worker/kernels/designs")
    options = parser.parse_args(arguments)
    if not (options.folder / "python/iron/__init__.py").is_file():
        sys.exit(f"check_iron_api: {options.folder}: expected a folder with python/iron/__init__.py")
    sources = sorted(options.designs.resolve().glob("*.py"))
    if not sources:
        sys.exit(f"check_iron_api: {options.designs}: expected designs, found none")
    checkout, wrong = Checkout(options.folder.resolve()), 0
    for source in sources:
        design = Design(source, checkout)
        wrong += len(design.errors)
        print(f"{source.name:<14}{len(design.errors)} of {design.checked} names and calls of IRON are wrong")
        print("".join(f"  {error}\n" for error in design.errors), end="")
    sys.stdout.flush()
    ran = subprocess.run([sys.executable, str(ROOT / "tools/run_iron_designs.py"), str(options.folder), str(options.designs)])
    return 1 if wrong or ran.returncode != 0 else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
