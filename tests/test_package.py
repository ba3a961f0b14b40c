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
MODULES.pop("__init__")
# Each package imports what stands above it, and of those in a line only itself.
LAYERS = (
    {"errors", "words"},
    {"devices", "io"},
    {"cache"},
    {"degradation"},
    {"faces", "prior"},
    {"datasets", "metrics"},
    {"explore"},
    {"supervised"},
    {"restore"},
    {"cluster"},
    {"bench", "train", "web"},  # only the command line imports these
    {"cli"},
    {"__main__"},
)
LEVEL = {name: number for number, names in enumerate(LAYERS) for name in names}


def python(code: str) -> str:
    env = {**os.environ, "PYTHONPATH": str(SOURCE.parent)}
    return subprocess.run([sys.executable, "-c", code], env=env, check=True, capture_output=True, text=True).stdout


def imported(path: Path, package: str) -> set[str]:
    """Return the names that a file imports of a package, anywhere: in functions and under TYPE_CHECKING too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            inner = {name for name in names if name.removeprefix(f"{package}.") in MODULES}
            found.update(inner or {node.module or ""})
    return {name for name in found if name.split(".")[0] == package}


def own(path: Path) -> set[str]:
    """Return the modules of this package that a file imports."""
    return {name.removeprefix("latentface.") for name in imported(path, "latentface")} & MODULES.keys()


def test_import_and_help_load_neither_torch_nor_torchvision():
    code = "import sys, latentface, latentface.cli; dir(latentface); print([m for m in sys.modules if m.startswith('torch')])"
    assert python(code).strip() == "[]"


def test_neither_a_prior_nor_its_exit_loads_the_compiler():
    code = (
        "import sys, torch, latentface\n"
        "from latentface.prior.mobilestylegan import MobileArchitecture, MobileGenerator\n"
        "latentface.load_prior('celeba128')\n"
        "MobileGenerator(MobileArchitecture(resolution=16, channels={4: 12, 8: 8})).exit(8, torch.nn.Identity())\n"
        "print([m for m in ('torch._dynamo', 'sympy') if m in sys.modules])"
    )
    assert python(code).strip() == "[]"


def test_nothing_ever_imports_torchvision():
    assert {name: p for name, p in MODULES.items() if imported(p, "torchvision")} == {}


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
        assert getattr(latentface, name).__name__.rpartition(".")[2] == name


def test_explore_is_the_function_also_once_its_package_is_imported():
    code = (
        "import latentface, latentface.explore.engine\n"
        "try: latentface.explore('rlse', None, [1])\n"
        "except Exception as error: print('not callable' in str(error))"
    )
    assert python(code).strip() == "False"


def test_every_error_is_public():
    import latentface.errors as errors

    names = {n for n, v in vars(errors).items() if isinstance(v, type) and issubclass(v, errors.LatentfaceError)}
    assert names <= set(latentface.__all__)


def test_it_is_typed():
    assert (SOURCE / "py.typed").is_file()


def test_every_package_has_its_layer():
    assert {name.split(".")[0] for name in MODULES} == LEVEL.keys()


def test_imports_run_one_way():
    wrong = []
    for name, path in MODULES.items():
        part = name.split(".")[0]
        for other in own(path):
            target = other.split(".")[0]
            below = LEVEL[target] < LEVEL[part] and (target not in ("bench", "train", "web") or part == "cli")
            if target != part and not below:
                wrong.append(f"{name} imports {other}")
    assert wrong == []


def test_the_page_calls_restore_and_nothing_below_it_in_less_than_400_lines():
    pages = {name: path for name, path in MODULES.items() if name.split(".")[0] == "web"}
    used = {other.split(".")[0] for path in pages.values() for other in own(path)}
    assert used == {"errors", "restore", "web"}
    lines = [line for path in pages.values() for line in path.read_text(encoding="utf-8").splitlines()]
    assert 0 < sum(bool(line.strip()) for line in lines) < 400


def test_there_are_no_cycles():
    graph = {name: own(path) - {name} for name, path in MODULES.items()}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join([*trail[trail.index(name) :], name])
        if name not in done:
            for other in sorted(graph[name]):
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
