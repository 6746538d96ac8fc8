"""A user's script that makes every public call, each result declared as what the documentation says it is.

test_typing.py runs it, has mypy check it, and looks whether a public name is missing.
"""

from __future__ import annotations

import copy
import pickle
import tempfile
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import pushforward
from pushforward import (
    LU,
    MLP,
    Above,
    ActNorm,
    Adam,
    Additive,
    Affine,
    Autoregressive,
    Below,
    Boolean,
    Category,
    Circle,
    Column,
    ColumnCheck,
    ContextNetwork,
    ContextShift,
    Conv1x1,
    ConvNet,
    ConvResNet,
    Coupling,
    Date,
    Ensemble,
    Epoch,
    FileFormatError,
    Files,
    Flow,
    History,
    Householder,
    Integer,
    Interval,
    Mixture,
    Normal,
    Permutation,
    Pixel,
    Positive,
    Posterior,
    RationalQuadratic,
    Real,
    Report,
    ResNet,
    Round,
    Schema,
    Split,
    Squeeze,
    StudentT,
    TableFlow,
    TableReport,
    TrainingDivergedError,
    Uniform,
    convert,
    glow,
    importance,
    lattice,
    maf,
    neural_spline,
    nice,
    plot,
    realnvp,
    realnvp_image,
    sample_posterior,
    triangular,
)
from pushforward.kde import Estimate, FlowKDE
from pushforward.sklearn import ConditionalFlow, FlowDensity

Doubles = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32] | Doubles

rng = np.random.default_rng(0)
x: Doubles = rng.normal(size=(200, 2))
condition: Doubles = rng.normal(size=(200, 1))
weights: Doubles = rng.uniform(size=200)


def presets() -> None:
    for layers in (
        neural_spline(2, depth=2, hidden=(8, 8), bins=4, bound=3.0, activation="silu", mixing="permutation"),
        neural_spline(2, depth=1, hidden=8, blocks=1, dropout=0.1, unconditional=False, autoregressive=True),
        maf(2, depth=1, hidden=[8], activation="tanh"),
        realnvp(2, depth=1, hidden=(8,)),
        nice(2, depth=1, hidden=(8,)),
        triangular(2, depth=1, hidden=8, order=[1, 0]),
    ):
        print(Flow(2, layers=layers))


def descriptions() -> Flow:
    flow = Flow(
        2,
        layers=[
            Coupling(RationalQuadratic(bins=4, min_slope=0.01, scheme="clip"), MLP((8,)), mask=[True, False]),
            Coupling(Affine(max_log_scale=2.0), ResNet(8, blocks=1, activation="gelu", dropout=0.1), "alternate"),
            Coupling(Additive(), mask="random", unconditional=True),
            Autoregressive(Affine(), MLP([8]), order=[0, 1], degrees=[[1] * 8], one_pass="forward"),
            LU(order="natural"),
            Householder(count=2),
            Permutation([1, 0]),
            ActNorm(),
        ],
        base=StudentT(5.0, learned=True),
        support=[Real(), Positive()],
        dtype="float64",
        seed=np.random.default_rng(0),
        num_threads=1,
    )
    Flow(2, layers=[], base=Normal(), support=Interval(0, 1), dtype=np.float32)
    Flow(1, layers=[], base=Uniform(), support=Circle(0.0, 360.0))
    Flow(2, layers=[ContextShift()], base=Mixture(3, covariance="diagonal", background=True), context=1)
    return flow


def fitting() -> Flow:
    def stop(flow: Flow, epoch: Epoch) -> bool:
        return epoch.validation_loss > 100 or flow.dim == 0

    network = ContextNetwork(features=2, network=MLP((4,)))
    flow = Flow(2, layers=neural_spline(2, depth=2, hidden=8), context=1, context_network=network, seed=0)
    initialized: Flow = flow.initialize(x, condition, weights)
    fitted: Flow = initialized.fit(
        x,
        context=condition,
        weights=weights,
        validation=(x[:50], condition[:50]),
        epochs=2,
        batch_size=64,
        optimizer=Adam(learning_rate=1e-2, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.1),
        schedule="constant",
        max_time=60.0,
        patience=None,
        clip_norm=None,
        frozen=[0, -1],
        restandardize=True,
        seed=0,
        progress=False,
        callback=stop,
        checkpoint="fit.checkpoint",
        checkpoint_every=10,
    )
    try:
        fitted.fit(x, context=condition, weights=weights, epochs=2, resume="fit.checkpoint", schedule="cosine")
    except (ValueError, FileFormatError, TrainingDivergedError) as error:
        print(error)
    return fitted


def gaussian(rows: Doubles) -> tuple[Doubles, Doubles]:
    values: Doubles = -0.5 * np.square(rows).sum(axis=1)
    return values, -rows


def to_a_function() -> None:
    flow = Flow(2, layers=[LU()])
    fitted: Flow = flow.fit_density(gaussian, epochs=1, steps=2, batch_size=8, max_calls=20_000, seed=0)
    with ThreadPoolExecutor(1) as pool:
        fitted.fit_density(lambda rows: gaussian(rows)[0], epochs=1, steps=2, population=64, pool=pool, max_time=9.0)
    assert fitted.history is not None
    last = fitted.history.epochs[-1]
    print(last.elbo + last.effective + last.power, last.evaluations, fitted.history["elbo"])


def history(flow: Flow) -> None:
    curves: History | None = flow.history
    assert curves is not None
    losses: Doubles = curves["train_loss"]
    best: int = curves.best_epoch
    stopped: str = curves.stopped
    ends: tuple[float, float] = (curves.initial_loss, curves.best_loss)
    for epoch in curves:
        numbers: tuple[int, int, float] = (epoch.epoch, epoch.steps, epoch.seconds)
        rates: tuple[float, float, float] = (epoch.train_loss, epoch.learning_rate, epoch.grad_norm)
        print(numbers, rates)
    print(len(curves), curves.epochs[-1], losses, best, stopped, ends, curves.plot())


def densities(flow: Flow) -> None:
    log_prob: Floats = flow.log_prob(x, condition)
    same: Floats = flow.log_prob(x.tolist(), [0.5], out=np.empty(len(x), dtype=np.float32))
    samples: Floats = flow.sample(10, [0.5], seed=0)
    both: tuple[Floats, Doubles] = flow.sample_and_log_prob(10, context=[0.5], seed=rng)
    density, gradient = flow.log_prob_and_grad(x, condition)
    total: float = float(density.sum()) + float(log_prob.mean())
    print(same.shape, samples.shape, both[0].dtype, gradient.shape, total)


def ensembles(flow: Flow) -> None:
    several: Ensemble = Ensemble.of(2, members=2, seed=0, context=1, layers=[ActNorm()])
    fitted: Ensemble = several.fit(
        x,
        context=condition,
        weights=weights,
        validation=0.2,
        learn_weights=True,
        max_time=60.0,
        seed=rng,
        progress=False,
        callback=lambda flow, epoch: epoch.epoch > flow.dim,
        epochs=2,
    )
    log_prob: Doubles = Ensemble([*fitted.flows, flow], [1, 1, 2]).log_prob(x, condition)
    density, gradient = fitted.fit_weights(x, condition, weights).log_prob_and_grad(x, context=condition)
    of_members: tuple[Floats, ...] = fitted.log_prob_vjp(x, density, condition)[1]
    samples: Floats = fitted.sample(10, [0.5], seed=0)
    both: tuple[Floats, Doubles] = fitted.sample_and_log_prob(10, context=[0.5], seed=0)
    fitted.save("ensemble.safetensors")
    loaded: Ensemble = Ensemble.load("ensemble.safetensors")
    loaded.weights, loaded.columns, loaded.context_columns, loaded.num_threads = None, ("a", "b"), None, 1
    shares: Doubles = loaded.weights
    print(log_prob.shape, density.shape, gradient.shape, samples.shape, both[0].dtype, shares, len(loaded))
    print(of_members[0].shape)
    print(loaded.dim, loaded.context, loaded.dtype, loaded.support, loaded.columns, loaded.num_threads)
    plot.corner(loaded, x, context=condition, n=100).savefig("ensemble.png")


def many_files(flow: Flow) -> None:
    with tempfile.TemporaryDirectory() as folder:
        written: Files = Files.of_blocks([np.column_stack([x, condition, weights])] * 2, folder)
        files = Files(f"{folder}/part-*.npy", columns=[0, 1])
        shape: tuple[int, int] = files.shape
        names: tuple[str, ...] | None = files.columns
        rows: npt.NDArray[Any] = files[5:10]
        given: Files = written.select([2]).rows(0, len(files))
        log_prob: Floats = flow.log_prob(files, given)
        flow.fit(files, context=given, weights=written.column(3), epochs=1, progress=False)
        print(shape, names, rows, log_prob, files.dtype, files.nbytes, files.itemsize, files.ndim)
        files.release()


def maps(flow: Flow) -> None:
    z, log_det = flow.inverse(x, condition)
    out: tuple[Floats, Floats] = flow.forward(z, condition, out=(np.empty_like(x), np.empty(len(x))))
    by_z, by_parameters, by_context = flow.forward_vjp(z, np.ones_like(z), np.zeros(len(z)), condition)
    by_x: Floats = flow.inverse_vjp(x, -z, np.ones(len(z)), context=condition)[0]
    by_parameters = flow.log_prob_vjp(x, np.ones(len(z)), condition)[1]
    none: None = flow.log_prob_vjp(x, np.ones(len(z)), condition, parameters=False)[1]
    latent: Floats = flow.sample_latent((2, 5), seed=0, temperature=0.5)
    base: Floats = flow.base_log_prob(latent, temperature=0.5)
    back, back_density = flow.forward_and_log_prob(latent, [0.5])
    latent, density_of_rows = flow.inverse_and_log_prob(x, condition)
    grid: Floats = flow.sample((2, 5), [0.5], seed=0)
    edge: Floats = flow.density_threshold(0.9, condition, n=100, seed=0)
    print(edge.shape)
    warm: Floats = flow.log_prob(grid, [0.5], temperature=2.0)
    print(none, base.shape, back.shape, back_density.shape, latent.shape, density_of_rows.shape, warm.shape)
    if by_context is not None:
        print(by_context.sum(), by_z.shape, by_parameters.shape, by_x.shape, log_det.shape, out[0].shape)


def loop_by_hand(flow: Flow) -> None:
    adam = Adam(1e-3).fresh()
    loss, gradient = flow.loss_and_grad(x, condition, weights)
    flow.parameters = adam.step(flow.parameters, gradient)
    step: int = adam.steps
    names: dict[str, Floats] = flow.named_parameters()
    print(loss, step, list(names), adam.learning_rate, adam.betas, adam.eps, adam.weight_decay)


def copies(flow: Flow) -> None:
    flow.columns, flow.context_columns = ("a", "b"), None
    flow.save("model.safetensors")
    loaded: Flow = Flow.load("model.safetensors")
    twins: list[Flow] = [copy.deepcopy(loaded), pickle.loads(pickle.dumps(loaded))]
    again: Flow = copy.deepcopy(loaded).reset(seed=0)
    loaded.num_threads = None
    threads: int = loaded.num_threads
    print(
        len(twins),
        again.dim,
        loaded.dim,
        loaded.context,
        loaded.context_network,
        loaded.conditioner_precision,
        loaded.dtype,
        loaded.base,
        loaded.support,
        loaded.layers,
        threads,
    )


def other_libraries() -> None:
    state = {"_transform._transforms.0._permutation": np.array([1, 0])}
    print(convert.from_nflows(state, bound=3.0, min_slope=1e-3, activation="relu", dtype="float64"))
    try:
        convert.from_zuko(state, bound=5.0, slope=1e-3)
    except (TypeError, ValueError) as error:
        print(error)


def pictures(flow: Flow) -> None:
    plot.corner(flow, x, context=condition, weights=weights, features=["a", "b"], n=1000, seed=0).savefig("corner.png")
    plot.calibration(flow, x, context=condition, weights=weights, bins=10, level=0.9).savefig("calibration.png")
    plot.coverage(flow, x, context=condition, weights=weights, bins=10, level=0.9, seed=0).savefig("coverage.png")
    plot.density(flow, x, context=[0.5], levels=(0.5,), points=50, seed=0).savefig("density.png")
    plot.history(flow).savefig("history.png")


def checking(flow: Flow) -> None:
    report: Report = flow.astype("float64").check(x, condition, weights, seed=0)
    rows: int = report.rows
    mean: float = report.log_likelihood.value
    gain: float | None = None if report.above_gaussian is None else report.above_gaussian.error
    told: float | None = None if report.classifier is None else report.classifier.value
    distances: list[float] = [found.distance for found in (*report.pit, report.pit_radius)]
    shares: tuple[float | None, str] = (report.outside_splines, report.stopped)
    odd: list[tuple[str, str]] = [(oddity.kind, oddity.text) for oddity in report.oddities]
    between: str = "" if report.between is None else report.between.text
    advice: str = report.next
    print(
        report,
        rows,
        mean,
        gain,
        told,
        distances,
        shares,
        odd,
        between,
        advice,
        report.above_training,
        report.round_trip,
    )


def like_scipy() -> None:
    kde = FlowKDE(x.T, weights=weights, flow=Flow(2, layers=nice(2, depth=1)), seed=0, epochs=1)
    log_density: Floats = kde.logpdf(x.T)
    density: Floats = kde.pdf(x[0]) + kde.evaluate(x[0]) + kde(x[0])
    points: Floats = kde.resample(10, seed=0)
    share: Estimate = kde.integrate_box([-1, -1], [1, 1], size=1000, seed=0)
    line = FlowKDE(x[:, 0], epochs=1, flow=Flow(1, layers=[]), seed=0)
    half: Estimate = line.integrate_box_1d(-np.inf, 0.0)
    error: float = share.error + half.error
    print(log_density.shape, density, points.shape, float(share) + half, error, kde.d, kde.n, kde.neff, kde.flow.dim)


def like_scikit_learn() -> None:
    model: FlowDensity = FlowDensity(layers="nice", depth=1, hidden=(8,), support=[Real(), Real()], epochs=1)
    model = model.fit(x, sample_weight=weights)
    log_density: Floats = model.score_samples(x)
    mean: float = model.score(x)
    samples: Floats = model.sample(10, random_state=0)
    rows: Floats = model.inverse_transform(model.transform(x))
    flow: Flow = model.flow_
    print(log_density.shape, mean, samples.shape, rows.shape, flow.dim)
    regressor: ConditionalFlow = ConditionalFlow(depth=1, hidden=8, epochs=1, random_state=0).fit(condition, x)
    target: Floats = regressor.predict(condition[:2])
    quantiles: Floats = regressor.predict_quantiles(condition[:2], [0.1, 0.9])
    draws: Floats = regressor.sample(condition[:2], 10, random_state=0)
    scores: Floats = regressor.log_prob(condition, x)
    print(target.shape, quantiles.shape, draws.shape, scores.shape, regressor.n_outputs_)


def tables() -> None:
    schema = Schema(
        {
            "grade": Column(Category(["low", "high"], ordered=True)),
            "count": Column(Integer(0, 99), atoms=[0], gaps=True),
        },
        left_out=["name"],
    )
    print(schema["grade"].kind, Above(0), Below(1), Boolean(), Date("D"))
    flow: TableFlow = TableFlow({"x": Positive(), "flag": Boolean()}, num_threads=1)
    table = {"x": rng.gamma(2.0, size=200), "flag": rng.uniform(size=200) < 0.5}
    flow.fit(table, validation=0.2, epochs=2, batch_size=64, patience=None, seed=0)
    scores: Doubles = flow.log_prob(table)
    curves: dict[str, History] = flow.history
    found: Schema = flow.schema
    columns: tuple[str, ...] = flow.columns
    print(scores.shape, curves, found, columns, flow.sample(3, gaps=False, seed=0), flow.num_threads)
    report: TableReport = flow.check(table, seed=0)
    each: dict[str, ColumnCheck] = report.columns
    print(each["x"].p_value, report.next)
    plot.table_corner(flow, table, columns=["x", "flag"], n=200, seed=0).savefig("table.png")
    questions(flow)
    with tempfile.TemporaryDirectory() as folder:
        flow.save(f"{folder}/table.safetensors")
        print(TableFlow.load(f"{folder}/table.safetensors"))


def questions(flow: TableFlow) -> None:
    joint = Flow(3, layers=triangular(3, depth=1, hidden=8), seed=0).initialize(rng.normal(size=(200, 3)))
    given = joint.conditional({0: [0.1, 0.2], 1: 0.3}, draws=60, steps=0, seed=0)
    mean, error = given.mean()
    quantile, spread = given.quantile(0.5)
    densities: Doubles = given.log_prob(np.zeros((2, 1)))
    print(given, mean, error, quantile, spread, densities, given.sample(4, seed=0).shape)
    part = joint.marginal([0, 1], draws=60, steps=0, seed=0)
    scores: Doubles = part.log_prob(np.zeros((2, 2)))
    filled: Floats = joint.impute([[0.1, np.nan, 0.2]], method="mean", draws=60, steps=0, seed=0)
    print(part, scores, filled)
    flags = flow.conditional({"x": [1.0, 2.0]}, draws=60, steps=0, seed=0)
    levels, shares = flags.probabilities("flag")
    print(flags, levels, shares, flow.marginal(["x"], draws=60, steps=0).sample(2, seed=0))
    print(flow.impute({"x": [1.0, np.nan], "flag": [True, False]}, method="draw", draws=60, steps=0, seed=0))


def posterior_of_a_likelihood() -> None:
    def log_likelihood(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        values: npt.NDArray[np.float64] = -0.5 * (x**2).sum(axis=1)
        return values

    found: Posterior = sample_posterior(log_likelihood, Interval(-5, 5), dim=1, rows=200, n_effective=450, seed=0)
    moments: tuple[Floats, Floats, Floats] = found.mean(), found.std(), found.quantile([0.1, 0.9])
    draws: npt.NDArray[np.float64] = found.sample(10, seed=0)
    evidence: tuple[float, float] = found.log_evidence, found.log_evidence_error
    problems: tuple[str, ...] = found.problems
    last: Round = found.rounds[-1]
    print(moments, draws.shape, evidence, problems, found.calls, found.weights.shape, last.beta)


def weighting(flow: Flow) -> None:
    def log_density(rows: Doubles) -> Doubles:
        values: Doubles = -(rows**2).sum(axis=1)
        return values

    result: importance.Draws = importance.sample(flow, log_density, 100, context=[0.5], smooth=True, seed=0)
    mean, error = result.mean()
    quantile, spread = result.quantile([0.1, 0.9])
    rows: Doubles = result.resample(50, seed=0)
    evidence: float = result.log_evidence + result.log_evidence_error + result.effective_size + result.pareto_k
    print(mean, error, quantile, spread, rows.shape, evidence, len(result.weights), result.to_dataframe())
    normal = Flow(2, layers=[])
    wide: importance.Draws = importance.sample(normal, log_density, 100, wider=normal, wider_share=0.2, seed=0)
    alone: importance.Evidence = importance.log_evidence_from_draws(wide.x, wide.log_density, flow=normal, seed=0)
    found: importance.Integral = importance.integrate(lambda rows: rows[:, 0] ** 2, [[0, 1]], rtol=0.1, seed=0)
    print(alone.log_evidence, found.value, found.error, float(found))


def images() -> None:
    shape = (1, 4, 4)
    pictures: Doubles = np.floor(rng.uniform(0, 8, size=(40, *shape)))
    convolutions = ConvNet(hidden=4, layers=1, kernel=3, padding="circular", activation="tanh", symmetric=False)
    layers = [
        Coupling(Affine(), convolutions, mask="channels"),
        Conv1x1(),
        Squeeze(),
        Split(),
        Squeeze(),
        Coupling(Additive(), ConvResNet(4, blocks=1), mask="checkerboard"),
    ]
    for made in (glow(shape, levels=1, depth=1, hidden=4), realnvp_image(shape), lattice(shape, depth=2, hidden=4)):
        print(Flow(shape=shape, layers=made).shape)
    flow = Flow(shape=shape, layers=layers, support=Pixel(levels=8, alpha=0.1)).fit(pictures, epochs=1, progress=False)
    report: Report = flow.check(pictures, seed=0)
    print(report.has_cells, report.bits_per_dim)
    plot.images(flow, 4, temperatures=(0.5, 1.0), seed=0).savefig("images.png")


def build() -> None:
    level: str = pushforward.simd_level()
    info: dict[str, str] = pushforward.build_info()
    version: str = pushforward.__version__
    print(level, info, version)


presets()
print(descriptions())
flow = fitting()
history(flow)
to_a_function()
densities(flow)
ensembles(flow)
many_files(flow)
maps(flow)
loop_by_hand(flow)
copies(flow)
pictures(flow)
checking(flow)
other_libraries()
like_scipy()
like_scikit_learn()
tables()
posterior_of_a_likelihood()


weighting(flow)
images()
build()
