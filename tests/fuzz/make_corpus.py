"""Write the seeds of the loader's fuzzing: files that load (valid-*), and files that must be refused (hostile-*)."""

import json
import struct
import sys
from pathlib import Path

import numpy as np
from pushforward import (
    LU,
    MLP,
    Above,
    ActNorm,
    Additive,
    Affine,
    Autoregressive,
    Below,
    Boolean,
    Category,
    Circle,
    Column,
    ContextNetwork,
    ContextShift,
    ConvResNet,
    Coupling,
    Date,
    Ensemble,
    Epoch,
    Flow,
    History,
    Householder,
    Integer,
    Interval,
    Mixture,
    Permutation,
    Pixel,
    Positive,
    RationalQuadratic,
    Real,
    ResNet,
    Schema,
    StudentT,
    glow,
    lattice,
)
from pushforward._model.masses import Masses, describe
from pushforward._tables import files
from pushforward._tables.model import TableModel
from pushforward._tables.summary import Summary
from pushforward._tables.warp import Warp


def coupling(transform, hidden=(), activation="relu", mask="half"):
    return Coupling(transform, MLP(hidden, activation), mask)


VALID = {
    "no-layer": Flow(1, layers=[], seed=0),
    "actnorm": Flow(2, layers=[ActNorm()], dtype="float64", seed=0),
    "additive": Flow(3, layers=[coupling(Additive(), mask=(True, False, True))], context=2, seed=0),
    "affine-one": Flow(1, layers=[coupling(Affine())], seed=0),
    "affine": Flow(2, layers=[Permutation(), coupling(Affine(), (2,), "silu")], dtype="float64", seed=0),
    "spline": Flow(2, layers=[coupling(RationalQuadratic(3), (2,), "tanh", "alternate")], seed=0),
    "kept": Flow(2, layers=[Coupling(RationalQuadratic(2, scheme="clip"), ResNet(2, 1), unconditional=True)], seed=0),
    "autoregressive": Flow(3, layers=[Autoregressive(Affine(), MLP((4,)))], context=1, dtype="float64", seed=0),
    "passes": Flow(2, layers=[Autoregressive(conditioner=ResNet(2, 1), order=[0, 0], one_pass="forward")], seed=0),
    "linear": Flow(3, layers=[LU(), Householder(2)], base=StudentT(4.0, learned=True), seed=0),
    "support": Flow(4, layers=[ActNorm()], support=[Real(), Positive(), Interval(-1, 2), Circle(0, 1)], seed=0),
    "pixel": Flow(2, layers=[ActNorm()], support=[Pixel(3), Pixel(256, 0.0)], seed=0),
    "cells": Flow(2, layers=[], support=[Interval(0, 1), Real()], seed=0).initialize(
        [[0.1, 1], [0.2, 2], [0.4, 0], [1, 5]]
    ),
    "context-network": Flow(2, layers=[coupling(Affine())], context=3, context_network=ContextNetwork(2, MLP((2,)))),
    "bfloat16": Flow(3, layers=[coupling(Affine(), (3,)), Autoregressive()], conditioner_precision="bfloat16", seed=0),
    "mixture": Flow(3, layers=[], base=Mixture(2), support=[Real(), Circle(0, 1), Real()], dtype="float64", seed=0),
    "mixture-diagonal": Flow(2, layers=[], base=Mixture(3, "diagonal", background=True), context=1, seed=0),
    "images": Flow(shape=(1, 4, 4), layers=glow((1, 4, 4), levels=2, depth=1, hidden=2), seed=0),
    "lattice": Flow(shape=(1, 2, 4), layers=lattice((1, 2, 4), depth=2, hidden=2), dtype="float64", seed=0),
    "conv-resnet": Flow(
        shape=(2, 1, 3), layers=[Coupling(Additive(), ConvResNet(2, 1), "channels")], context=1, dtype="float64", seed=0
    ),
    "history": Flow(1, layers=[], seed=0),
    "mixed": Flow(2, layers=[coupling(Affine(), (3,)), Permutation("reverse"), coupling(Additive())], seed=0),
}

VALID["history"].history = History(
    [Epoch(1, 3, 0.5, 1.25, 1.5, 1e-3, 2.0), Epoch(2, 6, 1.0, 1.125, float("nan"), 1e-4, 0.5)], 1, "epochs", 1.75
)

VALID_ENSEMBLES = {
    "ensemble": Ensemble([VALID["mixed"], VALID["spline"], VALID["actnorm"]], [1, 2, 1]),
    "ensemble-context": Ensemble([VALID["additive"], Flow(3, layers=[], context=2, dtype="float64")], [0, 1]),
    "ensemble-support": Ensemble([VALID["support"]]),
}


def table_model(columns, summaries=()):
    """The model of a table whose parts are as small as can be, not fitted to anything."""
    schema = Schema(columns, ["left"])
    model = TableModel(schema, {name: Summary() for name in columns} | dict(summaries))
    codings = [model.codings[i] for i in model.coded]
    if codings:
        counts = ([getattr(coding, name) for coding in codings] for name in ("codes", "ordered", "knots"))
        model.masses = Masses(describe(*counts, conditioner=MLP((2,))))
        model.masses.draw_parameters(np.random.default_rng(0))
    for number in model.numbers:
        coding, width = model.codings[number], model.context_width(number)
        layers = [ContextShift()] if width else []
        model.flows[coding.name] = Flow(
            1, layers=layers, support=coding.axis.support, context=width, dtype="float64", seed=number
        )
    return files.Saved(model, "arrays", {})


LINE, ENDS = Warp((-2, 0, 3), (0.1, 0.5, 0.9)), Warp((0, 2, 8), (0, 0.4, 1))
VALID_TABLES = {
    "table": table_model(
        {
            "kind": Column(Category(["a", "b", "c"]), gaps=True),
            "x": Column(Real(), gaps=True),
            "rain": Column(Positive(), atoms=[0]),
            "n": Column(Integer(0, 9), atoms=[3, 7]),
        },
        {"x": Summary(0.5, LINE, LINE), "n": Summary(4.0, ENDS, LINE)},
    ),
    "table-kinds": table_model(
        {
            "flag": Column(Boolean(), gaps=True),
            "grade": Column(Category([1, 2.5, 4], ordered=True)),
            "name": Column(Category(["a", "b", "c", "d"])),
            "day": Column(Date("D", "2020-02-28", "2020-03-02")),
            "time": Column(Date("ms")),
            "part": Column(Interval(0, 1), step=0.25),
            "angle": Column(Circle(0, 360)),
            "far": Column(Above(3), atoms=[4]),
            "below": Column(Below(10), step=0.5, atoms=[9, 9.5]),
            "real": Column(Real(), step=0.1),
            "one": Column(Category(["always"])),
        },
        {"name": Summary(rare=(0, 0.25, 0, 0.75)), "far": Summary(1.0, LINE, None)},
    ),
    "table-number": table_model({"x": Column(Real())}),
}


def split(data):
    end = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:end]), data[end:]


def joined(header, tensors):
    """A file of a header, as text or JSON value, and the bytes of its tensors."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + tensors


def edited(data, edit):
    """The file with its header, the pushforward entry parsed, changed by `edit`."""
    header, tensors = split(data)
    header["__metadata__"]["pushforward"] = json.loads(header["__metadata__"]["pushforward"])
    edit(header, header["__metadata__"]["pushforward"])
    header["__metadata__"]["pushforward"] = json.dumps(header["__metadata__"]["pushforward"])
    return joined(header, tensors)


def hostile(data):
    """Damage of every kind to one file, by name: the bytes and a part of the message."""
    header, tensors = split(data)
    text = data[8 : len(data) - len(tensors)]
    first = next(name for name in header if name != "__metadata__")

    def tensor(**changes):
        return edited(data, lambda header, _: header[first].update(changes))

    def model(**changes):
        return edited(data, lambda _, content: content["model"].update(changes))

    def content(**changes):
        return edited(data, lambda _, content: content.update(changes))

    def cells(shape, *values):
        entry = {"dtype": "F64", "shape": shape, "data_offsets": [len(tensors), len(tensors) + 8 * len(values)]}
        more = edited(data, lambda header, _: header.update({"standardization.cells": entry}))
        return more + struct.pack(f"<{len(values)}d", *values)

    def layer(**changes):
        return edited(data, lambda _, content: content["model"]["layers"][0].update(changes))

    def parameter(value):
        return joined(header, tensors[:-4] + struct.pack("<f", value))

    summary = {"kind": "ContextNetwork", "features": 1, "network": {"kind": "MLP", "hidden": [], "activation": "relu"}}
    widths = {"kind": "MLP", "hidden": [2**31 - 1] * 4, "activation": "relu"}
    return {
        "empty": (b"", "no header"),
        "text": (b"This is not a model, whatever its name may say.\n" * 4, "not a safetensors file"),
        "length-huge": (struct.pack("<Q", 2**64 - 1) + data[8:], "not a safetensors file"),
        "length-zero": (struct.pack("<Q", 0) + data[8:], "not a safetensors file"),
        "truncated-header": (data[:100], "not a safetensors file"),
        "truncated-data": (data[:-5], "the file ends before its data"),
        "trailing-bytes": (data + b"\0\0\0\0", "bytes that belong to no tensor"),
        "not-json": (joined(b"{" + text, tensors), "not valid JSON"),
        "zero-byte": (joined(text.rstrip() + b"\0", tensors), "zero byte"),
        "header-array": (joined(b"[" + text + b"]", tensors), "no JSON header"),
        "deep": (joined(b'{"a":' * 300 + b"1" + b"}" * 300, b""), "nested too deep"),
        "name-twice": (joined(b'{"__metadata__":{},' + text[1:], tensors), "twice"),
        "no-metadata": (joined({k: v for k, v in header.items() if k != "__metadata__"}, tensors), "not a pushforward"),
        "metadata-of-others": (joined({**header, "__metadata__": {"format": "pt"}}, tensors), "not a pushforward"),
        "metadata-number": (joined({**header, "__metadata__": {"pushforward": 1}}, tensors), "not a string"),
        "format-newer": (content(format=3, version="9.0"), "written in format 3 by pushforward '9.0'"),
        "format-text": (content(format="1"), "'format'"),
        "no-model": (edited(data, lambda _, content: content.pop("model")), "'model' is missing"),
        "dtype-other": (tensor(dtype="I32"), "F32 or F64"),
        "dtype-swapped": (model(dtype="float64"), "is not F64"),
        "shape-negative": (tensor(shape=[-1]), "'shape'"),
        "shape-overflow": (tensor(shape=[2**32, 2**32]), "overflows"),
        "shape-other": (tensor(shape=[1, 1, *header[first]["shape"]]), "is not F64 [2]"),
        "offsets-overlap": (tensor(data_offsets=[0, 2**62]), "the file ends before its data"),
        "offsets-reversed": (tensor(data_offsets=header[first]["data_offsets"][::-1]), "no range"),
        "gap": (edited(data, lambda header, _: header.pop(first)), "gap"),
        "tensor-unexpected": (
            edited(data, lambda header, _: header.update(extra={"dtype": "F32", "shape": [0], "data_offsets": [0, 0]})),
            "unexpected tensor 'extra'",
        ),
        "tensor-renamed": (edited(data, lambda header, _: header.update(other=header.pop(first))), "missing"),
        "parameter-nan": (parameter(np.nan), "not finite"),
        "parameter-infinite": (parameter(-np.inf), "not finite"),
        "scale-zero": (joined(header, tensors.replace(struct.pack("<d", 1.0), bytes(8), 1)), "scales above 0"),
        "cells-negative": (cells([2, 2], 0.0, 0.0, -0.5, 0.0), "finite widths of at least 0"),
        "cells-nan": (cells([2, 2], 0.0, 0.0, np.nan, 0.0), "not finite"),
        "cells-fewer": (cells([2], 0.0, 0.0), "is not F64 [2, 2]"),
        "table": (edited(data, lambda _, content: content.update(table={})), "the model of a table"),
        "dim-huge": (model(dim=2**62), "is not F64 [4611686018427387904]"),
        "dim-real": (model(dim=2.0), "'dim'"),
        "context-huge": (model(context=2**40), "missing"),
        "context-network-alone": (model(context_network=summary), "needs a context"),
        "context-network-other": (model(context_network={**summary, "kind": "MLP"}), "not a ContextNetwork"),
        "context-network-null": (model(context_network=None), "'kind' is missing"),
        "precision-other": (model(conditioner_precision="float16"), "'conditioner_precision' is not \"bfloat16\""),
        "precision-null": (model(conditioner_precision=None), "'conditioner_precision'"),
        "model-unknown-name": (model(supports=[]), "unknown 'supports'"),
        "support-text": (model(support="Positive"), "'support' is not an array"),
        "support-short": (model(support=[{"kind": "Real"}]), "one entry per feature"),
        "support-unknown": (model(support=[{"kind": "Simplex"}] * 2), "unknown support 'Simplex'"),
        "support-reversed": (model(support=[{"kind": "Interval", "low": 1, "high": 0}] * 2), "low < high"),
        "pixel-levels": (model(support=[{"kind": "Pixel", "levels": 1, "alpha": 0.0}] * 2), "'levels'"),
        "pixel-alpha": (model(support=[{"kind": "Pixel", "levels": 2, "alpha": 0.3}] * 2), "'alpha'"),
        "support-endless": (model(support=[{"kind": "Circle", "low": -1e308, "high": 1e308}] * 2), "low < high"),
        "support-unknown-name": (model(support=[{"kind": "Positive", "low": 1}] * 2), "unknown 'low'"),
        "layers-object": (model(layers={}), "not an array"),
        "layers-missing": (model(layers=[]), "unexpected tensor"),
        "layer-unknown": (layer(kind="Planar"), "unknown layer 'Planar'"),
        "mask-short": (layer(kept=[True]), "one entry per feature"),
        "mask-keeps-all": (layer(kept=[True, True]), "keeps every feature"),
        "hidden-huge": (layer(conditioner=widths), "more parameters"),
        "hidden-zero": (layer(conditioner={**widths, "hidden": [0]}), "'hidden'"),
        "activation-unknown": (layer(conditioner={**widths, "activation": "step"}), "unknown activation 'step'"),
        "permutation-repeats": (layer(kind="Permutation", order="random", indices=[0, 0]), "each feature once"),
        "resnet-blocks-huge": (
            layer(conditioner={"kind": "ResNet", "hidden": 2, "blocks": 2**31, "activation": "relu", "dropout": 0.0}),
            "'blocks'",
        ),
        "passes-short": (layer(kind="Autoregressive", passes=[0], units=[[1]], one_pass="inverse"), "unknown"),
        "columns-short": (content(columns=["a"]), "'columns'"),
        "training-text": (content(training="done"), "'training'"),
        "checkpoint": (content(checkpoint={"state": {}, "settings": {}}), "a checkpoint of a fit"),
    }


def hostile_mixtures(data):
    """Damage to the file of a mixture of two Gaussians in float64, by name: the bytes and a part of the message."""
    header, tensors = split(data)

    def base(**changes):
        return edited(data, lambda _, content: content["model"]["base"].update(changes))

    def number(name, value):
        end = header[f"base.{name}"]["data_offsets"][1]
        return joined(header, tensors[: end - 8] + struct.pack("<d", value) + tensors[end:])

    def missing(name):
        return edited(data, lambda header, _: header.update({"other": header.pop(f"base.{name}")}))

    blocks = ("log_weights", "means", "log_diagonals", "shears")
    return {
        **{f"{name}-nan": (number(name, np.nan), f"'base.{name}' holds values that are not finite") for name in blocks},
        **{f"{name}-infinite": (number(name, np.inf), "not finite") for name in blocks},
        **{f"{name}-missing": (missing(name), f"'base.{name}' is missing") for name in blocks},
        "components-none": (base(components=0), "'components'"),
        "components-more": (base(components=3), "more parameters"),
        "components-many": (base(components=257), "'components'"),
        "components-huge": (base(components=2**40), "'components'"),
        "components-real": (base(components=2.0), "'components'"),
        "covariance-unknown": (base(covariance="tied"), "unknown covariance 'tied'"),
        "covariance-diagonal": (base(covariance="diagonal"), "unexpected tensor 'base.shears'"),
        "background-number": (base(background=1), "'background' is not a boolean"),
        "background-alone": (base(components=1, background=True), "at least 2 components"),
        "weights-unknown": (base(weights=[0.5, 0.5]), "unknown 'weights'"),
    }


def hostile_images(data):
    """Damage to the file of `glow`, two levels of one step each, by name: the bytes and a part of the message."""

    def model(edit):
        return edited(data, lambda _, content: edit(content["model"]))

    def shape(*extents):
        return model(lambda content: content.update(shape=list(extents)))

    def of_kind(kind, edit):
        def first(content):
            edit(next(layer for layer in content["layers"][::-1] if layer["kind"] == kind))

        return model(first)

    def network(**changes):
        return of_kind("Coupling", lambda layer: layer["conditioner"].update(changes))

    return {
        "shape-product": (shape(1, 4, 5), "do not multiply to 'dim'"),
        "shape-two": (shape(4, 4), "not [channels, height, width]"),
        "shape-zero": (shape(0, 4, 4), "'shape'"),
        "shape-huge": (shape(2**63 - 1, 2**62, 2), "'shape'"),
        "shape-number": (model(lambda content: content.update(shape=16)), "'shape'"),
        "shape-odd": (shape(16, 1, 1), "an even height and an even width"),
        "shape-missing": (model(lambda content: content.pop("shape")), "needs a flow with a shape"),
        "split-odd": (model(lambda content: content["layers"].append({"kind": "Split"})), "an even number of channels"),
        "squeeze-more": (of_kind("Squeeze", lambda layer: layer.update(factor=3)), "unknown 'factor'"),
        "kept-short": (of_kind("Coupling", lambda layer: layer["kept"].pop()), "one entry per feature"),
        "kept-mixed": (
            of_kind("Coupling", lambda layer: layer["kept"].__setitem__(0, not layer["kept"][0])),
            "whole pixels",
        ),
        "matrix-order": (of_kind("Conv1x1", lambda layer: layer.update(indices=[0, 0, 1, 1])), "permutation"),
        "kernel-even": (network(kernel=[3, 2, 3]), "must be odd"),
        "kernel-few": (network(kernel=[3, 3]), "a kernel for each layer"),
        "kernel-huge": (network(kernel=10001), "'kernel'"),
        "kernel-zero": (network(kernel=[3, 0, 3]), "'kernel'"),
        "kernel-text": (network(kernel="3"), "'kernel'"),
        "layers-huge": (network(layers=2**31), "'layers'"),
        "channels-huge": (network(hidden=2**31), "'hidden'"),
        "channels-more": (network(hidden=2**16), "more parameters"),
        "padding-unknown": (network(padding="same"), "unknown padding 'same'"),
        "symmetric-relu": (network(symmetric=True), "the activation tanh"),
        "symmetric-number": (network(symmetric=1), "'symmetric' is not a boolean"),
    }


def hostile_ensembles(data):
    """Damage to an ensemble's file of three members, by name: the bytes and a part of the message."""
    header, tensors = split(data)

    def content(edit):
        return edited(data, lambda _, content: edit(content))

    def renamed(old, new):
        return edited(data, lambda header, _: header.update({new: header.pop(old)}))

    def extra(name):
        entry = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
        return edited(data, lambda header, _: header.update({name: entry}))

    def weights(*values):
        begin, end = header["weights"]["data_offsets"]
        return joined(header, tensors[:begin] + struct.pack("<3d", *values) + tensors[end:])

    def support(content):
        content["members"][0]["model"].pop("support")  # of older files: real features
        content["members"][1]["model"]["support"] = [{"kind": "Positive"}] * 2

    scale = "members.2.standardization.scale"
    return {
        "members-none": (content(lambda c: c.update(members=[])), "without members"),
        "members-object": (content(lambda c: c.update(members={})), "not an array"),
        "members-numbers": (content(lambda c: c.update(members=[1, 2, 3])), "member 0: 'model' is missing"),
        "members-more": (content(lambda c: c["members"].append(c["members"][0])), "'weights' is not F64 [4]"),
        "members-fewer": (content(lambda c: c["members"].pop()), "'weights' is not F64 [2]"),
        "members-many": (content(lambda c: c.update(members=[{}] * 3000)), "'weights' is not F64 [3000]"),
        "members-missing": (content(lambda c: c.pop("members")), "'model' is missing"),
        "member-empty": (content(lambda c: c["members"][1].clear()), "member 1: 'model' is missing"),
        "weights-missing": (renamed("weights", "weight"), "'weights' is missing"),
        "weights-negative": (weights(-0.5, 1, 0.5), "negative"),
        "weights-sum": (weights(0.5, 0.5, 0.5), "add up to 1"),
        "weights-nan": (weights(np.nan, 0.5, 0.5), "not finite"),
        "scale-missing": (renamed(scale, scale + "s"), "member 2: tensor 'standardization.scale' is missing"),
        "scale-elsewhere": (renamed(scale, "members.3.scale"), "member 2: tensor 'standardization.scale' is missing"),
        "number-other": (extra("members.3.a"), "unexpected tensors of member '3'"),
        "number-zeros": (extra("members.00.a"), "unexpected tensors of member '00'"),
        "number-none": (extra("members.0"), "unexpected tensor 'members.0'"),
        "tensor-outside": (extra("extra"), "unexpected tensor 'extra'"),
        "tensor-inside": (extra("members.0.extra"), "member 0: unexpected tensor 'extra'"),
        "dim-other": (content(lambda c: c["members"][2]["model"].update(dim=1)), "member 2: tensor"),
        "support-other": (content(support), "member 1: its support"),
    }


def hostile_tables(data):
    """Damage to the file of the model "table", by name: the bytes and a part of the message."""

    def table(edit):
        return edited(data, lambda _, content: edit(content["table"]))

    def column(number, **changes):
        return table(lambda t: t["schema"]["columns"][number].update(changes))

    def kind(number, **changes):
        return table(lambda t: t["schema"]["columns"][number]["kind"].update(changes))

    def summary(name, **changes):
        return table(lambda t: t["summaries"][name].update(changes))

    def warp(**changes):
        return table(lambda t: t["summaries"]["x"]["warp"].update(changes))

    def extra(name):
        entry = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
        return edited(data, lambda header, _: header.update({name: entry}))

    return {
        "table-none": (edited(data, lambda _, content: content.pop("table")), "no model of a table"),
        "member-missing": (table(lambda t: t.pop("flows")), "'flows' is missing"),
        "member-unknown": (table(lambda t: t.update(more=1)), "unknown 'more'"),
        "library-number": (table(lambda t: t.update(library=1)), "'library' is not a string"),
        "progress-text": (table(lambda t: t.update(progress="half")), "'progress' is not an object"),
        "columns-none": (table(lambda t: t["schema"].update(columns=[])), "without columns"),
        "column-twice": (column(1, name="kind"), "two columns are 'kind'"),
        "column-unknown": (column(1, width=3), "unknown 'width'"),
        "kind-unknown": (kind(1, kind="Simplex"), "unknown kind 'Simplex'"),
        "category-twice": (kind(0, values=["a", "b", "a"]), "the same value twice"),
        "category-list": (kind(0, values=["a", "b", []]), "no string, number or boolean"),
        "category-more": (kind(0, values=["a", "b", "c", "d"]), "reads another number of columns"),
        "integer-reversed": (kind(3, low=9, high=0), "low < high"),
        "integer-huge": (kind(3, low=-(2**60)), "'low'"),
        "date-none": (
            column(3, kind={"kind": "Date", "unit": "D", "low": "2021-02-29", "high": "2022-01-01"}),
            "no date",
        ),
        "unit-unknown": (column(3, kind={"kind": "Date", "unit": "week", "low": None, "high": None}), "unknown unit"),
        "atom-twice": (column(2, atoms=[0.0, 0.0]), "'atoms' is not increasing"),
        "atom-between": (column(3, atoms=[3.5]), "no whole number"),
        "atom-of-category": (column(0, atoms=[1.0]), "a step or atoms"),
        "step-negative": (column(1, step=-1.0), "'step'"),
        "gaps-number": (column(1, gaps=1), "'gaps' is not a boolean"),
        "left-out-twice": (table(lambda t: t["schema"].update(left_out=["x"])), "'left_out'"),
        "summary-missing": (table(lambda t: t["summaries"].pop("rain")), "no summary of 'rain'"),
        "summary-more": (table(lambda t: t["summaries"].update(more={})), "a summary of a column that is not there"),
        "center-text": (summary("x", center="0"), "'center'"),
        "rare-other": (summary("kind", rare=[0.5, 0.5]), "the rare levels"),
        "rare-sum": (summary("kind", rare=[0.5, 0.0, 0.2]), "add up to 1"),
        "warp-reversed": (warp(edges=[3.0, 0.0, -2.0]), "'edges' is not increasing"),
        "warp-short": (warp(edges=[0.0, 1.0]), "a share from 0 to 1 for each"),
        "warp-above": (warp(shares=[0.1, 0.5, 1.5]), "a share from 0 to 1 for each"),
        "warp-one-end": (warp(shares=[0.0, 0.5, 0.9]), "two ends or none"),
        "masses-null": (table(lambda t: t.update(masses=None)), "'masses' is null"),
        "masses-other": (table(lambda t: t["masses"].update(categories=[3, 2, 2, 3])), "the masses are not those"),
        "masses-dtype": (table(lambda t: t["masses"].update(dtype="float16")), "unknown dtype 'float16'"),
        "flows-fewer": (table(lambda t: t["flows"].pop()), "less flows than"),
        "flows-more": (table(lambda t: t["flows"].append(t["flows"][0])), "more flows than"),
        "flow-support": (
            table(lambda t: t["flows"][0]["model"].update(support=[{"kind": "Positive"}])),
            "column 'x': its flow does not fit",
        ),
        "tensor-outside": (extra("extra"), "unexpected tensor 'extra'"),
        "tensor-of-masses": (extra("masses.extra"), "unexpected tensor 'masses.extra'"),
        "tensor-of-flows": (extra("flows.9.a"), "unexpected tensors of flow '9'"),
    }


def main(folder):
    for old in folder.glob("*.safetensors"):
        old.unlink()
    for name, model in (VALID | VALID_ENSEMBLES).items():
        model.save(folder / f"valid-{name}.safetensors")
    for name, saved in VALID_TABLES.items():
        files.save(folder / f"valid-{name}.safetensors", saved)
    for name, (data, _) in hostile_tables((folder / "valid-table.safetensors").read_bytes()).items():
        (folder / f"hostile-table-{name}.safetensors").write_bytes(data)
    for name, (data, _) in hostile((folder / "valid-mixed.safetensors").read_bytes()).items():
        (folder / f"hostile-{name}.safetensors").write_bytes(data)
    for name, (data, _) in hostile_mixtures((folder / "valid-mixture.safetensors").read_bytes()).items():
        (folder / f"hostile-mixture-{name}.safetensors").write_bytes(data)
    for name, (data, _) in hostile_images((folder / "valid-images.safetensors").read_bytes()).items():
        (folder / f"hostile-images-{name}.safetensors").write_bytes(data)
    for name, (data, _) in hostile_ensembles((folder / "valid-ensemble.safetensors").read_bytes()).items():
        (folder / f"hostile-ensemble-{name}.safetensors").write_bytes(data)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "corpus"))
