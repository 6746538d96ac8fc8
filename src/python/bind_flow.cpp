// A flow for Python, one class per precision. Each binding views the arrays, allocates the result, releases the GIL and
// calls the core.
#include "arrays.hpp"
#include "bindings.hpp"
#include "gil.hpp"
#include "pushforward/core.hpp"
#include "pushforward/engine/memory.hpp"

namespace pushforward::bindings {

namespace {

template <class Scalar>
class FlowBindings {
 public:
  using F = Stack<Scalar>;

  static void bind(py::module_& module, const char* name) {
    using py::arg;
    // What most calls share. None: no context, every row, the default number of threads.
    const auto context = arg("context") = py::none(), index = arg("index") = py::none(),
               weights = arg("weights") = py::none(), threads = arg("threads") = py::none(),
               temperature = arg("temperature") = 1.0, parameters_too = arg("parameters") = true;
    const py::kw_only kw_only;
    py::class_<F>(module, name, "The compiled flow behind pushforward.Flow.", py::module_local())
        .def(py::init(&make), arg("description"), kw_only, arg("most_parameters") = py::none(),
             "Build the flow of a JSON description, with parameters of zero. ValueError, before they are allocated, "
             "if there are more than `most_parameters`.")
        .def_property_readonly("parameters", &parameters, "All parameters, (p,): a writable view.")
        .def_property_readonly(
            "tile_rows", [](const F& flow) { return flow.tile_rows(); }, "Rows of a tile.")
        .def_property_readonly("parameter_blocks", &parameter_blocks,
                               "Name, shape and bound of the initial values of each block of the parameters.")
        .def_property_readonly("domains", &domains, "'line', 'box' or 'circle' for each feature of the data side.")
        .def_property_readonly("latent_domains", &latent_domains, "The same for each feature of the latent side.")
        .def("set_standardization", &set_standardization, arg("shift"), arg("scale"), arg("cells") = py::none(),
             "Set the data side's maps, (y - shift) / scale, one per feature, and how far the cells of values on the "
             "low "
             "and on the high bound of each feature reach (dim, 2); 0, or None: as far as the rounding of a table.")
        .def("set_context_standardization", &F::set_context_standardization, arg("shift"), arg("scale"),
             "Set the maps of the context, (value - shift) / scale, one per conditioning feature.")
        .def("to_line", &to_line, arg("x"), kw_only, index, threads,
             "Map rows (n, dim) through the inverse of each feature's support, without standardisation: infinite on a "
             "bound, NaN where a value is not finite or outside.")
        .def("initialize_from_data", &initialize_from_data, arg("x"), kw_only, context, weights, threads,
             "Set the parameters of layers that start from data.")
        .def("forward", &map<Direction::forward>, arg("z"), kw_only, context, threads,
             "Map z (n, dim) to x; return x and log|det dx/dz| (n,).")
        .def("inverse", &map<Direction::inverse>, arg("x"), kw_only, context, threads,
             "Map x (n, dim) to z; return z and log|det dz/dx| (n,).")
        .def("forward_and_log_prob", &map<Direction::forward, true>, arg("z"), kw_only, context, threads,
             "Map z (n, dim) to x; return x and log p(x) (n,).")
        .def("inverse_and_log_prob", &map<Direction::inverse, true>, arg("x"), kw_only, context, threads,
             "Map x (n, dim) to z; return z and log p(x) (n,).")
        .def("log_prob", &log_prob, arg("x"), kw_only, context, index, temperature, threads,
             "Return log p (n,) of the rows in `index`, or of all. The temperature multiplies the scale of the base.")
        .def("base_log_prob", &base_log_prob, arg("z"), kw_only, temperature, threads,
             "Return the log density (n,) of latent points (n, dim).")
        .def("sample_latent", &sample_latent, arg("key"), arg("rows"), kw_only,
             arg("is_double") = std::is_same_v<Scalar, double>, temperature, threads,
             "Return the latent points of the rows that `sample` draws, float64 or float32.")
        .def("sample", &sample, arg("key"), arg("rows"), kw_only, arg("first") = 0, context,
             arg("is_double") = std::is_same_v<Scalar, double>, arg("with_log_prob") = false, temperature, threads,
             "Draw rows first, first + 1, ... of a key; return them, float64 or float32, and their log p (empty "
             "unless wanted).")
        .def("log_prob_and_grad", &log_prob_and_grad, arg("x"), kw_only, context, threads,
             "Return log p (n,) and its derivative by x (n, dim).")
        .def("loss_and_grad", &loss_and_grad, arg("x"), arg("gradient").noconvert(), kw_only, context, weights, index,
             arg("normalizer") = py::none(), arg("dropout") = 0, threads,
             "Return -sum_i w_i log p(x_i) / normalizer over the rows in `index` (or all) and the norm of its "
             "gradient, which is written to `gradient` (p,). The normalizer is the number of rows if None; dropout is "
             "the key of the units to drop, 0 for none.")
        .def("loss_and_grad_of_slots", &loss_and_grad_of_slots, arg("x"), arg("sums").noconvert(),
             arg("values").noconvert(), kw_only, context, weights, index, arg("normalizer"), arg("dropout") = 0,
             arg("rows"), arg("slots"), threads,
             "The same for the rows in `index`, which are those of some slots, first and last + 1, of a minibatch of "
             "`rows` rows: write the gradient of each node of the tree (nodes, p) and its part of the loss (nodes,).")
        .def("forward_vjp", &map_vjp<Direction::forward>, arg("z"), arg("grad_x"), arg("grad_log_det"), kw_only,
             context, parameters_too, threads,
             "Return the derivatives of a scalar by z, parameters and context, from those by x and log_det. Those by "
             "the parameters are None if they are not wanted.")
        .def("inverse_vjp", &map_vjp<Direction::inverse>, arg("x"), arg("grad_z"), arg("grad_log_det"), kw_only,
             context, parameters_too, threads,
             "Return the derivatives of a scalar by x, parameters and context, from those by z and log_det.")
        .def("log_prob_vjp", &log_prob_vjp, arg("x"), arg("grad_log_prob"), kw_only, context, parameters_too, threads,
             "Return the derivatives of a scalar by x, parameters and context, from those by log p (n,).");
  }

 private:
  static F make(const std::string& description, std::optional<Index> most_parameters) {
    return make_stack_from_text<Scalar>(description, most_parameters.value_or(std::numeric_limits<Index>::max()));
  }

  static int count(MaybeThreads threads) { return threads ? *threads : default_threads(); }

  // A writable view on the flow's own vector, which it keeps alive.
  static py::array parameters(py::object self) {
    auto& flow = self.cast<F&>();
    return py::array_t<Scalar>({flow.parameter_count()}, {sizeof(Scalar)}, flow.parameters(), self);
  }

  static py::list parameter_blocks(const F& flow) {
    py::list blocks;
    for (const auto& block : flow.parameter_blocks())
      blocks.append(py::make_tuple(block.name, py::tuple(py::cast(block.shape)), block.initial_bound));
    return blocks;
  }

  static const char* name_of(Domain domain) {
    return domain == Domain::line ? "line" : domain == Domain::box ? "box" : "circle";
  }

  static py::list domains(const F& flow) {
    py::list names;
    for (Index i = 0; i < flow.dim(); ++i) names.append(name_of(flow.data_side().domain(i)));
    return names;
  }
  static py::list latent_domains(const F& flow) {
    py::list names;
    for (const Domain domain : flow.latent_domains()) names.append(name_of(domain));
    return names;
  }

  static void set_standardization(F& flow, const std::vector<double>& shift, const std::vector<double>& scale,
                                  const std::optional<std::vector<std::array<double, 2>>>& cells) {
    std::vector<Cells> ends;
    if (cells)
      for (const auto& [low, high] : *cells) ends.push_back({low, high});
    flow.set_standardization(shift, scale, ends);
  }

  // Of the rows in `index`, or of all of them without one.
  static py::array_t<double> to_line(const F& flow, const py::array& x, const MaybeIndex& index, MaybeThreads threads) {
    const Table rows = table(x, flow.dim(), -1, index);
    py::array_t<double> y({rows.rows, flow.dim()});
    double* to = y.mutable_data();
    const InterruptibleWithoutGil released;
    engine::to_line(flow, rows, to, count(threads));
    return y;
  }

  // The context of `rows` rows; a table whose data is null when the flow has none.
  static Table context_table(const F& flow, const MaybeArray& context, Index rows,
                             const MaybeIndex& index = std::nullopt) {
    if (!context) {
      if (flow.context() > 0) throw std::invalid_argument("context");
      return {};
    }
    const bool one_row = context->ndim() == 1;
    return table(*context, flow.context(), rows, one_row ? MaybeIndex() : index);
  }

  static void initialize_from_data(F& flow, const py::array& x, const MaybeArray& context,
                                   const std::optional<Vector>& weights, MaybeThreads threads) {
    const Table rows = table(x, flow.dim()), conditions = context_table(flow, context, rows.rows);
    if (weights && weights->size() != rows.rows) throw std::invalid_argument("weights");
    const WithoutGil released;
    engine::initialize(flow, rows, &conditions, data_or_null(weights), count(threads));
  }

  // Returns the log-determinants too, or in their place log p(x).
  template <Direction direction, bool density = false>
  static py::tuple map(const F& flow, const py::array& input, const MaybeArray& context, MaybeThreads threads) {
    const Table rows = table(input, flow.dim()), conditions = context_table(flow, context, rows.rows);
    auto points = empty_table(rows.is_double, rows.rows, flow.dim());
    Vector values(rows.rows);
    Results results{output(points), density ? nullptr : values.mutable_data(),
                    density ? values.mutable_data() : nullptr};
    {
      const InterruptibleWithoutGil released;
      engine::map(flow, direction, rows, &conditions, results, count(threads));
    }
    return py::make_tuple(points, values);
  }

  // Of the rows in `index`, or of all of them without one.
  static Vector log_prob(const F& flow, const py::array& x, const MaybeArray& context, const MaybeIndex& index,
                         double temperature, MaybeThreads threads) {
    const Table rows = table(x, flow.dim(), -1, index);
    const Table conditions = context_table(flow, context, rows.rows, index);
    Vector result(rows.rows);
    Results results{{}, nullptr, result.mutable_data(), temperature};
    const InterruptibleWithoutGil released;
    engine::map(flow, Direction::inverse, rows, &conditions, results, count(threads));
    return result;
  }

  static Vector base_log_prob(const F& flow, const py::array& z, double temperature, MaybeThreads threads) {
    const Table rows = table(z, flow.dim());
    Vector result(rows.rows);
    double* to = result.mutable_data();
    const InterruptibleWithoutGil released;
    engine::base_log_prob(flow, rows, to, temperature, count(threads));
    return result;
  }

  static py::array sample_latent(const F& flow, std::uint64_t key, Index rows, bool is_double, double temperature,
                                 MaybeThreads threads) {
    auto points = empty_table(is_double, rows, flow.dim());
    const Output to = output(points);
    const InterruptibleWithoutGil released;
    engine::sample_latent(flow, {key}, rows, to, temperature, count(threads));
    return points;
  }

  static py::tuple sample(const F& flow, std::uint64_t key, Index rows, Index first, const MaybeArray& context,
                          bool is_double, bool with_log_prob, double temperature, MaybeThreads threads) {
    const Table conditions = context_table(flow, context, rows);
    auto points = empty_table(is_double, rows, flow.dim());
    Vector density(with_log_prob ? rows : 0);
    Results results{output(points), nullptr, with_log_prob ? density.mutable_data() : nullptr, temperature};
    {
      const InterruptibleWithoutGil released;
      engine::sample(flow, {key, first}, rows, &conditions, results, count(threads));
    }
    return py::make_tuple(points, density);
  }

  static py::tuple log_prob_and_grad(const F& flow, const py::array& x, const MaybeArray& context,
                                     MaybeThreads threads) {
    const Table rows = table(x, flow.dim()), conditions = context_table(flow, context, rows.rows);
    auto gradient = empty_table(rows.is_double, rows.rows, flow.dim());
    Vector density(rows.rows);
    Gradients<Scalar> gradients;
    gradients.input = output(gradient);
    gradients.log_prob = density.mutable_data();
    {
      const InterruptibleWithoutGil released;
      engine::vjp(flow, Direction::inverse, rows, &conditions, {}, gradients, count(threads));
    }
    return py::make_tuple(density, gradient);
  }

  static std::pair<double, double> loss_and_grad(const F& flow, const py::array& x,
                                                 py::array_t<Scalar, py::array::c_style>& gradient,
                                                 const MaybeArray& context, const std::optional<Vector>& weights,
                                                 const MaybeIndex& index, std::optional<double> normalizer,
                                                 std::uint64_t dropout, MaybeThreads threads) {
    const Table rows = table(x, flow.dim(), -1, index);
    const Table conditions = context_table(flow, context, rows.rows, index);
    if (weights && weights->size() != x.shape(0)) throw std::invalid_argument("weights");
    if (gradient.size() != flow.parameter_count()) throw std::invalid_argument("gradient");
    Seeds seeds;
    seeds.weights = data_or_null(weights);
    seeds.normalizer = -normalizer.value_or(static_cast<double>(rows.rows));
    seeds.dropout = dropout;
    Gradients<Scalar> gradients;
    gradients.parameters = gradient.mutable_data();
    double norm = 0;
    gradients.norm = &norm;
    const InterruptibleWithoutGil released;
    const double loss = engine::vjp(flow, Direction::inverse, rows, &conditions, seeds, gradients, count(threads));
    return {loss, norm};
  }

  static void loss_and_grad_of_slots(const F& flow, const py::array& x, py::array_t<Scalar, py::array::c_style>& sums,
                                     Vector& values, const MaybeArray& context, const std::optional<Vector>& weights,
                                     const MaybeIndex& index, double normalizer, std::uint64_t dropout, Index rows,
                                     std::pair<Index, Index> slots, MaybeThreads threads) {
    const Table own = table(x, flow.dim(), -1, index);
    const Table conditions = context_table(flow, context, own.rows, index);
    if (weights && weights->size() != x.shape(0)) throw std::invalid_argument("weights");
    const Index tile_rows = flow.tile_rows(), tiles = tile_count(rows, tile_rows),
                bytes = flow.parameter_count() * static_cast<Index>(sizeof(Scalar));
    const auto [first, last] = slots;
    if (rows < 1 || first < 0 || first > last || last > SlotPlan::slots(tiles, bytes))
      throw std::invalid_argument("slots");
    const SlotPlan plan(tiles, bytes, 1, first, last);
    if (std::min(rows, plan.first_tile(last) * tile_rows) - std::min(rows, plan.first_tile(first) * tile_rows) !=
        own.rows)
      throw std::invalid_argument("rows of the slots");
    Index nodes = 0;
    for (Index slot = first; slot < last; slot = plan.end(plan.node_at(slot))) ++nodes;
    if (sums.size() != nodes * flow.parameter_count() || values.size() != nodes) throw std::invalid_argument("sums");
    Seeds seeds;
    seeds.weights = data_or_null(weights);
    seeds.normalizer = -normalizer;
    seeds.dropout = dropout;
    const SlotShare share{rows, first, last, values.mutable_data()};
    Gradients<Scalar> gradients;
    gradients.parameters = sums.mutable_data();
    gradients.share = &share;
    const InterruptibleWithoutGil released;
    engine::vjp(flow, Direction::inverse, own, &conditions, seeds, gradients, count(threads));
  }

  template <Direction direction>
  static py::tuple map_vjp(const F& flow, const py::array& input, const py::array& grad_output,
                           const Vector& grad_log_det, const MaybeArray& context, bool parameters_too,
                           MaybeThreads threads) {
    const Table rows = table(input, flow.dim()), seed = table(grad_output, flow.dim(), rows.rows);
    if (grad_log_det.size() != rows.rows) throw std::invalid_argument("grad_log_det");
    Seeds seeds;
    seeds.output = &seed;
    seeds.log_det = grad_log_det.data();
    return vjp(flow, direction, rows, seeds, context, parameters_too, threads);
  }

  static py::tuple log_prob_vjp(const F& flow, const py::array& x, const Vector& grad_log_prob,
                                const MaybeArray& context, bool parameters_too, MaybeThreads threads) {
    const Table rows = table(x, flow.dim());
    if (grad_log_prob.size() != rows.rows) throw std::invalid_argument("grad_log_prob");
    Seeds seeds;
    seeds.weights = grad_log_prob.data();
    return vjp(flow, Direction::inverse, rows, seeds, context, parameters_too, threads);
  }

  static py::tuple vjp(const F& flow, Direction direction, const Table& rows, const Seeds& seeds,
                       const MaybeArray& context, bool parameters_too, MaybeThreads threads) {
    const Table conditions = context_table(flow, context, rows.rows);
    auto grad_input = empty_table(rows.is_double, rows.rows, flow.dim());
    py::object grad_parameters = py::none(), grad_context = py::none();
    Gradients<Scalar> gradients;
    gradients.input = output(grad_input);
    if (parameters_too) {
      py::array_t<Scalar> sum(flow.parameter_count());
      gradients.parameters = sum.mutable_data();
      grad_parameters = sum;
    }
    if (context) {
      auto table = empty_table(conditions.is_double, rows.rows, flow.context());
      gradients.context = output(table);
      grad_context = table;
    }
    {
      const InterruptibleWithoutGil released;
      engine::vjp(flow, direction, rows, &conditions, seeds, gradients, count(threads));
    }
    return py::make_tuple(grad_input, grad_parameters, grad_context);
  }
};

Vector shares(std::uint64_t key, Index rows) {
  Vector result(rows);
  draw_shares({key}, rows, result.mutable_data());
  return result;
}

}  // namespace

void bind_flow(py::module_& module) {
  FlowBindings<float>::bind(module, "FlowFloat32");
  FlowBindings<double>::bind(module, "FlowFloat64");
  module.def("draw_shares", &shares, py::arg("key"), py::arg("rows"),
             "Return uniform numbers in [0, 1], one for each row of a key: which flow of an ensemble it comes from.");
}

}  // namespace pushforward::bindings
