"""Makes the mutants of a module, with the operators of Cosmic Ray and our own."""

from __future__ import annotations

import ast
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code

from tests.mutants.operators import Place, operators


@dataclass(frozen=True)
class Mutant:
    """A module with one mutation."""

    module: str
    """The path of its file."""
    line: int
    where: str
    """The qualified name of the mutated function or class; empty at module level."""
    before: str
    after: str
    """The lines that differ, with single spaces."""
    source: str

    @property
    def key(self) -> tuple[str, str, str, str]:
        """Identifies the mutant. It does not change when other lines are added or removed."""
        return self.module, self.where, self.before, self.after


def sample(module: str, *, count: int | None, seed: int) -> list[Mutant]:
    """A random sample of a module's mutants, in order; all of them if `count` is None."""
    source = Path(module).read_text()
    places = sorted(_places(source))
    random.Random(f"{seed} {module}").shuffle(places)
    found: dict[tuple[str, ...], Mutant] = {}
    for place, name, occurrence in places:
        if count is not None and len(found) >= count:
            break
        mutant = _mutant(module, source, place, name, occurrence)
        if mutant is not None:
            found.setdefault(mutant.key, mutant)
    return sorted(found.values(), key=lambda mutant: mutant.line)


def _places(source: str) -> Iterator[tuple[Place, str, int]]:
    """Every place that an operator can mutate, except for those without effect at run time."""
    idle = list(_idle_places(ast.parse(source)))
    parsed = get_ast(source)
    for name, operator in operators().items():
        occurrence = 0
        for node in ast_nodes(parsed):
            for place in operator.mutation_positions(node):
                is_idle = any(start <= place[0] and place[1] <= end for start, end in idle)
                is_idle |= node.parent is not None and node.parent.type == "parameters"  # `*`
                if not is_idle:
                    yield place, name, occurrence
                occurrence += 1


def _idle_places(tree: ast.Module) -> Iterator[Place]:
    """Annotations, assertions, type aliases, and the arguments of decorators of classes."""
    for node in ast.walk(tree):
        idle: list[ast.expr | ast.stmt | None] = []
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                idle = [node.returns]
            case ast.ClassDef():
                idle = [item for item in node.decorator_list if isinstance(item, ast.Call)]
            case ast.arg():
                idle = [node.annotation]
            case ast.AnnAssign(annotation=ast.Name("TypeAlias")) | ast.Assert():
                idle = [node]
            case ast.AnnAssign():
                idle = [node.annotation]
        for item in idle:
            if item is not None:
                assert item.end_lineno is not None and item.end_col_offset is not None
                # a decorator begins with its @ and includes the end of the line
                is_decorator = isinstance(node, ast.ClassDef)
                start = (item.lineno, item.col_offset - is_decorator)
                end = (item.end_lineno, item.end_col_offset)
                yield start, (item.end_lineno + 1, 0) if is_decorator else end


def _mutant(module: str, source: str, place: Place, name: str, occurrence: int) -> Mutant | None:
    mutated = mutate_code(source, operators()[name], occurrence)
    if mutated is None:
        return None
    try:
        tree = ast.parse(mutated)
    except SyntaxError:
        return None
    if ast.dump(tree) == ast.dump(ast.parse(source)):
        return None
    before, after = _difference(source.splitlines(), mutated.splitlines())
    line = place[0][0]
    return Mutant(module, line, _enclosing(ast.parse(source), line), before, after, mutated)


def _difference(lines: list[str], mutated: list[str]) -> tuple[str, str]:
    """The lines that differ; they are consecutive, since there is one mutation."""
    while lines and mutated and lines[0] == mutated[0]:
        lines, mutated = lines[1:], mutated[1:]
    while lines and mutated and lines[-1] == mutated[-1]:
        lines, mutated = lines[:-1], mutated[:-1]
    return _joined(lines), _joined(mutated)


def _joined(lines: list[str]) -> str:
    return " ".join(" ".join(lines).split())


def _enclosing(tree: ast.Module, line: int) -> str:
    """The qualified name of the innermost definition that contains a line."""
    names: list[str] = []
    body: list[ast.stmt] = tree.body
    while True:
        for node in body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                if node.lineno <= line <= node.end_lineno:
                    names.append(node.name)
                    body = node.body
                    break
        else:
            return ".".join(names)
