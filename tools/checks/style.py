#!/usr/bin/env python3
"""Style that tests itself: sizes of files and functions, unfinished marks, sleeps in tests, machine paths, formatting."""
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
CODE = {".cc", ".h", ".comp", ".glsl", ".py", ".proto", ".cpp", ".hpp", ".sh", ".cmake"}
MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 70
# One width for C++, GLSL, proto and Markdown; scripts and CMake may be wider.
MAX_COLUMNS = 100
MAX_SCRIPT_COLUMNS = 160
WRAPPED = {".cc", ".h", ".cpp", ".hpp", ".comp", ".glsl", ".proto", ".md"}
UNFINISHED = re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "X" * 3, "HA" + "CK"]) + r")\b")
SLEEP = re.compile(r"sleep_for|time\.sleep|usleep\(|absl::SleepFor|setTimeout\(")
MACHINE_PATH = re.compile(r"(?<![\w.])/(work|farm|root|home/\w+)/")


def tracked() -> list[pathlib.Path]:
    # Files that are not tracked yet but will be count too.
    out = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return sorted({ROOT / line for line in out.splitlines()})


def strip_cpp(text: str) -> str:
    """Blanks comments, strings and characters, keeping line breaks, so that braces can be counted."""
    pattern = re.compile(r'//[^\n]*|/\*.*?\*/|R"(\w*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'', re.S)
    text = re.sub(r"(?<=[0-9a-fA-F])'(?=[0-9a-fA-F])", "", text)  # digit separators
    return pattern.sub(lambda m: re.sub(r"[^\n]", " ", m.group(0)), text)


def opens_function(head: str) -> bool:
    """Whether the text between the last statement and a brace is the head of a function."""
    close = head.rfind(")")
    if close < 0 or re.search(r"\b(namespace|class|struct|enum|union)\b[^()]*$", head):
        return False
    return re.fullmatch(r"[\w\s:<>,*&\-\[\]]*", head[close + 1:]) is not None


def cpp_functions(text: str):
    """Yields (first line, lines) of every function body that does not stand in another function."""
    clean = strip_cpp(text)
    stack, last = [], 0
    for match in re.finditer(r"[{};]", clean):
        if match.group(0) == "{":
            inside = any(kind for kind, _ in stack)
            stack.append((not inside and opens_function(clean[last:match.start()]), match.start()))
        elif match.group(0) == "}" and stack:
            kind, start = stack.pop()
            if kind:
                yield clean.count("\n", 0, start) + 1, clean.count("\n", start, match.end()) + 1
        last = match.end()


def python_functions(text: str):
    import ast
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.lineno, node.end_lineno - node.lineno + 1


def cannot_break(path: pathlib.Path, line: str, fenced: bool) -> bool:
    """Commands and tables of a document, its code spans and links, and literals in code stand on one line."""
    if path.suffix == ".md":
        return fenced or line.startswith(("|", "    ")) or "`" in line or "](" in line
    return path.suffix in WRAPPED and '"' in line or line.lstrip().startswith("rpc ")


def check_file(path: pathlib.Path, errors: list[str]) -> None:
    name = path.relative_to(ROOT).as_posix()
    is_code = path.suffix in CODE or path.name in {"check", "demo", "CMakeLists.txt"}
    if not is_code and path.suffix not in {".md", ".json", ".yaml", ".yml"}:
        return
    text = path.read_text(encoding="utf-8", errors="replace")
    lines = text.splitlines()
    fenced = False
    for number, line in enumerate(lines, 1):
        if is_code and UNFINISHED.search(line):
            errors.append(f"{name}:{number}: unfinished mark: {line.strip()[:80]}")
        if path.suffix != ".json" and MACHINE_PATH.search(line):
            errors.append(f"{name}:{number}: absolute path of a machine: {line.strip()[:80]}")
        if SLEEP.search(line) and is_code and name.split("/")[0] in {"tests", "lib", "gateway", "loader", "gpu-worker", "npu-worker", "cli"}:
            errors.append(f"{name}:{number}: a sleep; wait for the event instead: {line.strip()[:80]}")
        if path.suffix == ".md" and line.lstrip().startswith("```"):
            fenced = not fenced
        most = MAX_COLUMNS if path.suffix in WRAPPED else MAX_SCRIPT_COLUMNS
        if len(line) > most and path.suffix not in {".py", ".json", ".yaml", ".yml"} and not cannot_break(path, line, fenced):
            errors.append(f"{name}:{number}: {len(line)} columns, expected at most {most}")
        if is_code and line != line.rstrip():
            errors.append(f"{name}:{number}: spaces at the end of the line")
    if not is_code:
        return
    if len(lines) > MAX_FILE_LINES:
        errors.append(f"{name}: {len(lines)} lines, expected at most {MAX_FILE_LINES}")
    functions = cpp_functions(text) if path.suffix in {".cc", ".h", ".comp", ".glsl"} else python_functions(text) if path.suffix == ".py" else ()
    for line, length in functions:
        if length > MAX_FUNCTION_LINES:
            errors.append(f"{name}:{line}: a function of {length} lines, expected at most {MAX_FUNCTION_LINES}")
    if path.suffix == ".h" and "#pragma once" not in text and "/kernels/" not in name and not name.endswith("-inl.h"):
        errors.append(f"{name}: a header without #pragma once")


def check_format(files: list[pathlib.Path], errors: list[str]) -> None:
    """clang-format 14's opinion; other versions have others, so they are not asked."""
    program = shutil.which("clang-format-14") or shutil.which("clang-format")
    if program is None or " 14." not in subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout:
        print("style: formatting is not checked: clang-format 14 is not here")
        return
    sources = [str(p) for p in files if p.suffix in {".cc", ".h"}]
    result = subprocess.run([program, "--dry-run", *sources], capture_output=True, text=True, cwd=ROOT)
    errors += [line for line in result.stderr.splitlines() if "clang-format-violations" in line]


def main() -> int:
    errors: list[str] = []
    files = [p for p in tracked() if p.is_file()]
    for path in files:
        check_file(path, errors)
    check_format(files, errors)
    print("\n".join(errors) if errors else f"style: {len(files)} files, nothing to say")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
