"""The package as a whole: what importing it costs, what it offers, and which way its imports run."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import latentface

SOURCE = Path(latentface.__file__).parent
MODULES = {
    ".".join(p.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): p for p in SOURCE.rglob("*.py")
}
# STYLE rule 2: a layer imports what stands before it, and nothing that stands after.
LAYERS = ["errors", "io", "degradation", "prior", "explore", "restore", "cli"]
BESIDE = ("bench", "train")  # only the command line imports these


def python(code: str) -> str:
    env = {**os.environ, "PYTHONPATH": str(SOURCE.parent)}
    return subprocess.run([sys.executable, "-c", code], env=env, check=True, capture_output=True, text=True).stdout


def imported(path: Path, package: str, *, at_start: bool) -> set[str]:
    """Names of modules that a file imports; those under TYPE_CHECKING never count, those in functions unless at_start."""
    found: set[str] = set()

    def walk(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if at_start and isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
                continue
            if isinstance(child, ast.Import):
                found.update(alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{path}: a relative import"
                found.add(child.module or "")
                found.update(f"{child.module}.{alias.name}" for alias in child.names)
            walk(child)

    walk(ast.parse(path.read_text(encoding="utf-8")))
    return {name for name in found if name.split(".")[0] == package}


def own(path: Path, *, at_start: bool) -> set[str]:
    names = {n.removeprefix("latentface").lstrip(".") for n in imported(path, "latentface", at_start=at_start)}
    return {n for n in names if n in MODULES and n}


def test_import_and_help_load_neither_torch_nor_torchvision():
    code = "import sys, latentface, latentface.cli; dir(latentface); print([m for m in sys.modules if m.startswith('torch')])"
    assert python(code).strip() == "[]"


def test_nothing_ever_imports_torchvision():
    assert {name: p for name, p in MODULES.items() if imported(p, "torchvision", at_start=False)} == {}


def test_the_public_names_work_where_torchvision_cannot_be_imported():
    code = (
        "import sys; sys.modules['torchvision'] = None\n"
        "import latentface\n"
        "print([name for name in latentface.__all__ if not callable(getattr(latentface, name))])"
    )
    assert python(code).strip() == "[]"


def test_all_is_sorted_and_exactly_the_public_names():
    assert latentface.__all__ == sorted(latentface.__all__)
    homes = [name for names in latentface._HOMES.values() for name in names]
    assert sorted(homes) == latentface.__all__
    checked = ast.parse((SOURCE / "__init__.py").read_text(encoding="utf-8"))
    block = next(n for n in checked.body if isinstance(n, ast.If))
    assert sorted(a.name for n in block.body if isinstance(n, ast.ImportFrom) for a in n.names) == latentface.__all__
    assert set(dir(latentface)) == {*latentface.__all__, "__version__"}
    for name in latentface.__all__:
        assert getattr(latentface, name).__name__ == name


def test_every_error_is_public():
    import latentface.errors as errors

    names = {n for n, v in vars(errors).items() if isinstance(v, type) and issubclass(v, errors.LatentfaceError)}
    assert names <= set(latentface.__all__)


def test_it_is_typed():
    assert (SOURCE / "py.typed").is_file()


def test_imports_run_one_way():
    wrong = []
    for name, path in MODULES.items():
        part = name.split(".")[0]
        for other in own(path, at_start=False):
            target = other.split(".")[0]
            if part in LAYERS and target in LAYERS and LAYERS.index(target) > LAYERS.index(part):
                wrong.append(f"{name} imports {other}")
            if target in BESIDE and part not in (target, "cli"):
                wrong.append(f"{name} imports {other}")
    assert wrong == []


def test_there_are_no_cycles():
    graph = {name: own(path, at_start=True) - {name} for name, path in MODULES.items()}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join([*trail[trail.index(name) :], name])
        if name not in done:
            for other in graph[name]:
                # A package's own __init__ gathers its parts; the parts are the nodes that matter.
                if not name.startswith(f"{other}."):
                    visit(other, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_pytorchs_own_generators_are_seeded_in_one_place():
    """`devices.seeded` restores those of GPUs, too; fork_rng(devices=[]) with manual_seed leaves them reseeded."""
    calls = {"torch.manual_seed", "torch.random.fork_rng", "torch.random.manual_seed", "torch.seed"}
    found = {
        name
        for name, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in calls
    }
    assert found == set()
