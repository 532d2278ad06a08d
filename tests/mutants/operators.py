"""The mutation operators: a selection of those of Cosmic Ray, and two of our own."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from typing import Any

import parso
from cosmic_ray.ast import is_number
from cosmic_ray.operators.operator import Example, Operator
from cosmic_ray.plugins import get_operator

Place = tuple[tuple[int, int], tuple[int, int]]

_BINARY = "Add_Sub Sub_Add Mul_Div Div_Mul FloorDiv_Mul Mod_FloorDiv BitAnd_BitOr BitOr_BitAnd "
_BINARY += "RShift_LShift LShift_RShift Pow_Mul"
_COMPARISON = "Lt_LtE Lt_GtE LtE_Lt LtE_Gt Gt_GtE Gt_LtE GtE_Gt GtE_Lt Eq_NotEq NotEq_Eq Is_IsNot "
_COMPARISON += "IsNot_Is"
_UNARY = "Delete_Not Delete_USub"
_OTHERS = "AddNot ReplaceAndWithOr ReplaceOrWithAnd ReplaceTrueWithFalse ReplaceFalseWithTrue "
_OTHERS += "ReplaceBreakWithContinue ReplaceContinueWithBreak ExceptionReplacer NumberReplacer "
_OTHERS += "RemoveDecorator ZeroIterationForLoop"


class RemoveStatement(Operator):
    """Removes a call, or an assignment to an attribute or an item, or an augmented assignment."""

    def mutation_positions(self, node: Any) -> Iterator[Place]:
        if node.type == "simple_stmt" and _is_removable(node.children[0]):
            yield (node.children[0].start_pos, node.children[0].end_pos)

    def mutate(self, node: Any, index: int) -> Any:
        prefix = node.children[0].get_first_leaf().prefix
        node.children[0] = parso.parse(f"{prefix}pass")
        return node

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        return (Example("f()", "pass"), Example("a.b = 1", "pass"), Example("a += 1", "pass"))


def _is_removable(statement: Any) -> bool:
    try:
        (node,) = ast.parse(statement.get_code().strip()).body
    except SyntaxError:  # such as a `return` without its function
        return False
    match node:
        case ast.Expr(ast.Call() | ast.Await()) | ast.AugAssign() | ast.Delete():
            return True
        case ast.Assign(targets):
            return any(not isinstance(target, ast.Name) for target in targets)
    return False


class HalveNumber(Operator):
    """Halves a number. Cosmic Ray changes it by one, which hardly matters to a limit of 100."""

    def mutation_positions(self, node: Any) -> Iterator[Place]:
        if is_number(node) and abs(ast.literal_eval(node.value)) >= 4:
            yield (node.start_pos, node.end_pos)

    def mutate(self, node: Any, index: int) -> Any:
        value = ast.literal_eval(node.value)
        half = value // 2 if isinstance(value, int) else value / 2
        return parso.python.tree.Number(str(half), node.start_pos, prefix=node.prefix)

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        return (Example("x = 100", "x = 50"),)


@functools.cache
def operators() -> dict[str, Operator]:
    """The operators by name. Of similar replacements of an operator, one or two are selected."""
    names = [f"ReplaceBinaryOperator_{pair}" for pair in _BINARY.split()]
    names += [f"ReplaceComparisonOperator_{pair}" for pair in _COMPARISON.split()]
    names += [f"ReplaceUnaryOperator_{pair}" for pair in _UNARY.split()]
    names += _OTHERS.split()
    found: dict[str, Operator] = {name: get_operator(f"core/{name}")() for name in names}
    return {**found, "RemoveStatement": RemoveStatement(), "HalveNumber": HalveNumber()}
