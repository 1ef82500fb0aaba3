"""Puts a price on what Jinja compiles to plain Python: loops, `~`, slices, comparisons, tests, literals.

Not the prices: each of these passes through the filter `_each` or `_paid` of environment.py.
"""

from __future__ import annotations

from typing import Any

from jinja2 import nodes
from jinja2.visitor import NodeTransformer


class Priced(NodeTransformer):
    """A template's tree with those filters in it."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        node.iter = _through(node.iter, "_each")
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        node.nodes = [_through(each, "_paid") for each in node.nodes]
        return _through(node, "_paid")

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        return _through(node, "_paid") if isinstance(node.arg, nodes.Slice) else node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        self.generic_visit(node)
        node.expr = _through(node.expr, "_paid")
        for operand in node.ops:
            operand.expr = _through(operand.expr, "_paid")
        return node

    def visit_Test(self, node: nodes.Test) -> nodes.Node:
        self.generic_visit(node)
        node.args = [_through(each, "_paid") for each in node.args or ()]
        return node

    def visit_List(self, node: nodes.List) -> nodes.Node:
        return _through(self.generic_visit(node), "_paid")

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:
        return _through(self.generic_visit(node), "_paid")

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        self.generic_visit(node)
        return node if node.ctx == "store" else _through(node, "_paid")


def _through(node: Any, name: str) -> nodes.Filter:
    """The node, through a filter."""
    made = nodes.Filter(node, name, [], [], None, None)
    made.set_lineno(1 if node.lineno is None else node.lineno)
    made.set_environment(node.environment)
    return made
