"""Converts PeepholeLSTM to ONNX, as a Scan over steps.

Paddle cannot trace the layer's loop. A regular LSTM is therefore traced as a placeholder, and its ONNX node
is then replaced. ONNX's LSTM supports peepholes (input P), but OpenVINO silently ignores them; both backends
run a Scan correctly, and nearly as fast as their LSTM.
Shapes: N videos, T steps, D feature width, H LSTM width.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from videotag.system.quiet_paddle import paddle

import numpy as np

from videotag.models.sequence import PeepholeLSTM

if TYPE_CHECKING:
    import onnx

#: What is traced -> what it stands for.
StandIns: TypeAlias = Mapping[paddle.nn.LSTM, PeepholeLSTM]

#: One step: the gates' sums of the input (N, 4H), and the state before it -> the state after it, twice.
_STEP = """
step (float[N, H] hidden, float[N, H] cell, float[N, G] step_gates)
    => (float[N, H] new_hidden, float[N, H] new_cell, float[N, H] state)
{
    recurrent = MatMul(hidden, weight)
    gates = Add(step_gates, recurrent)
    candidate, input, forget, output = Split <axis = 1, num_outputs = 4> (gates)
    input_peep = Mul(peep_input, cell)
    input_sum = Add(input, input_peep)
    input_gate = Sigmoid(input_sum)
    forget_peep = Mul(peep_forget, cell)
    forget_sum = Add(forget, forget_peep)
    forget_gate = Sigmoid(forget_sum)
    value = Tanh(candidate)
    kept = Mul(forget_gate, cell)
    added = Mul(input_gate, value)
    new_cell = Add(kept, added)
    output_peep = Mul(peep_output, new_cell)
    output_sum = Add(output, output_peep)
    output_gate = Sigmoid(output_sum)
    shown = Tanh(new_cell)
    new_hidden = Mul(output_gate, shown)
    state = Identity(new_hidden)
}
"""


@contextlib.contextmanager
def stand_ins(layer: paddle.nn.Layer) -> Iterator[StandIns]:
    """Context in which a regular LSTM replaces every PeepholeLSTM of a layer."""
    found = [
        (parent, name, child)
        for parent in layer.sublayers(include_self=True)
        for name, child in parent.named_children()
        if isinstance(child, PeepholeLSTM)
    ]
    made = {
        child: paddle.nn.LSTM(child.projection.weight.shape[0], child.hidden_size) for _, _, child in found
    }
    try:
        for parent, name, child in found:
            parent.add_sublayer(name, made[child])
        yield {plain: child for child, plain in made.items()}
    finally:
        for parent, name, child in found:
            parent.add_sublayer(name, child)


def with_scans(model: bytes, replaced: StandIns) -> bytes:
    """Replaces every placeholder LSTM of an ONNX model with a Scan.

    Args:
        model: ONNX model made by paddle2onnx.
        replaced: Placeholders returned by stand_ins.

    Returns:
        The ONNX model, serialized.

    Raises:
        LookupError: A placeholder is not in the model.
    """
    if not replaced:
        return model
    import onnx

    loaded = onnx.load_from_string(model)
    graph = loaded.graph
    producers = {output: node for node in graph.node for output in node.output}
    for number, (plain, layer) in enumerate(replaced.items()):
        # By its random weights, which no other LSTM has.
        weight = plain.weight_hh_l0.numpy()
        places = [
            place
            for place, node in enumerate(graph.node)
            if node.op_type == "LSTM" and _is_made_of(weight, node.input[2], producers)
        ]
        if not places:
            raise LookupError("the LSTM in place of a PeepholeLSTM is not in the ONNX model")
        for place in reversed(places):  # a layer may be called more than once
            nodes = _scan(graph.node[place], layer, prefix=f"peephole{number}.{place}.")
            del graph.node[place]
            for offset, node in enumerate(nodes):
                graph.node.insert(place + offset, node)
    return bytes(loaded.SerializeToString())


def _is_made_of(weight: np.ndarray, name: str, producers: Mapping[str, onnx.NodeProto]) -> bool:
    """Whether the value with this name is computed from the constant `weight`."""
    from onnx import numpy_helper

    waiting = [name]
    while waiting:
        node = producers.get(waiting.pop())
        if node is None:
            continue
        waiting += node.input
        if node.op_type == "Constant" and list(node.attribute[0].t.dims) == list(weight.shape):
            return np.array_equal(numpy_helper.to_array(node.attribute[0].t), weight)
    return False


def _scan(lstm: onnx.NodeProto, layer: PeepholeLSTM, *, prefix: str) -> list[onnx.NodeProto]:
    """Nodes with an LSTM's input (T, N, D) and outputs (T, 1, N, H), (1, N, H) and (1, N, H)."""
    from onnx import helper, numpy_helper

    nodes: list[onnx.NodeProto] = []

    def add(op: str, *inputs: str, outputs: tuple[str, ...] = (), **attributes: Any) -> str:
        outputs = outputs or (f"{prefix}{len(nodes)}",)
        nodes.append(helper.make_node(op, list(inputs), list(outputs), **attributes))
        return outputs[0]

    def constant(array: np.ndarray) -> str:
        return add("Constant", value=numpy_helper.from_array(array))

    projected = add("MatMul", lstm.input[0], constant(layer.projection.weight.numpy()))
    gates = add("Add", projected, constant(_biases(layer)))  # (T, N, 4H)
    count = add("Shape", gates, start=1, end=2)
    zeros = add("ConstantOfShape", add("Concat", count, constant(np.array([layer.hidden_size])), axis=0))
    ends = (f"{prefix}hidden", f"{prefix}cell", f"{prefix}states")
    add("Scan", zeros, zeros, gates, outputs=ends, body=_step(layer, prefix), num_scan_inputs=1)
    hidden, cell, states = ends
    for name, end, axis in zip(lstm.output, (states, hidden, cell), (1, 0, 0), strict=False):
        add("Unsqueeze", end, constant(np.array([axis])), outputs=(name,))
    return nodes


def _step(layer: PeepholeLSTM, prefix: str) -> onnx.GraphProto:
    """The body of the Scan; the prefix makes its names unique in the graph, as ONNX requires."""
    from onnx import numpy_helper, parser

    body = parser.parse_graph(_STEP)
    _, *peepholes = np.split(layer.bias_row.numpy()[0], np.arange(4, 7) * layer.hidden_size)
    names = ("weight", "peep_input", "peep_forget", "peep_output")
    for name, array in zip(names, (layer.weight.numpy(), *peepholes), strict=True):
        body.initializer.append(numpy_helper.from_array(array, name))
    for value in (*body.input, *body.output, *body.initializer):
        value.name = prefix + value.name
    for node in body.node:
        node.input[:] = [prefix + name for name in node.input]
        node.output[:] = [prefix + name for name in node.output]
    return body


def _biases(layer: PeepholeLSTM) -> np.ndarray:
    """The sum of all biases of the gates, (4H,)."""
    biases: np.ndarray = layer.bias_row.numpy()[0, : 4 * layer.hidden_size]
    return biases if layer.projection.bias is None else biases + layer.projection.bias.numpy()
