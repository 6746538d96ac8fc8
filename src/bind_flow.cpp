// pushforward::Flow for Python, one class per precision: view the arrays, make room for the result, release the GIL,
// call.
#include "arrays.hpp"
#include "bindings.hpp"
#include "gil.hpp"
#include "pushforward/flow.hpp"

namespace pushforward::bindings {

namespace {

template <class Scalar>
class FlowBindings {
 public:
  using F = Flow<Scalar>;

  static void bind(py::module_& module, const char* name) {
    py::class_<F>(module, name, "The compiled flow behind pushforward.Flow.", py::module_local())
        .def(py::init(&make))
        .def_property_readonly("parameters", &parameters)
        .def_property_readonly("parameter_blocks", &parameter_blocks)
        .def("set_standardization", &F::set_standardization)
        .def("set_context_standardization", &F::set_context_standardization)
        .def_property_readonly("domains", &domains)
        .def_property_readonly("latent_domains", &latent_domains)
        .def("to_line", &to_line)
        .def("initialize_from_data", &initialize_from_data)
        .def("forward", &map<Direction::forward>)
        .def("inverse", &map<Direction::inverse>)
        .def("log_prob", &log_prob)
        .def("sample", &sample)
        .def("log_prob_and_grad", &log_prob_and_grad)
        .def("loss_and_grad", &loss_and_grad)
        .def("forward_vjp", &vjp<Direction::forward>)
        .def("inverse_vjp", &vjp<Direction::inverse>);
  }

 private:
  // most_parameters below 0: no limit.
  static F make(const std::string& description, Index most_parameters) {
    return F(Json::parse(description), most_parameters < 0 ? std::numeric_limits<Index>::max() : most_parameters);
  }

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

  // Of each feature: "line", "box" or "circle".
  static const char* name_of(Domain domain) {
    return domain == Domain::line ? "line" : domain == Domain::box ? "box" : "circle";
  }

  // Of each feature, and of each feature of the latent side.
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

  // Of the rows in `index`, or of all of them without one.
  static py::array_t<double> to_line(const F& flow, const py::array& x, const MaybeIndex& index, int threads) {
    const Table rows = table(x, flow.dim(), -1, index);
    py::array_t<double> y({rows.rows, flow.dim()});
    double* to = y.mutable_data();
    const WithoutGil released;
    flow.to_line(rows, to, threads);
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
                                   const std::optional<Vector>& weights, int threads) {
    const Table rows = table(x, flow.dim()), conditions = context_table(flow, context, rows.rows);
    const WithoutGil released;
    flow.initialize_from_data(rows, &conditions, data_or_null(weights), threads);
  }

  template <Direction direction>
  static py::tuple map(const F& flow, const py::array& input, const MaybeArray& context, int threads) {
    const Table rows = table(input, flow.dim()), conditions = context_table(flow, context, rows.rows);
    auto points = empty_table(rows.is_double, rows.rows, flow.dim());
    Vector log_det(rows.rows);
    typename F::Results results{output(points), log_det.mutable_data(), nullptr};
    {
      const WithoutGil released;
      flow.map(direction, rows, &conditions, results, threads);
    }
    return py::make_tuple(points, log_det);
  }

  // Of the rows in `index`, or of all of them without one.
  static Vector log_prob(const F& flow, const py::array& x, const MaybeArray& context, const MaybeIndex& index,
                         int threads) {
    const Table rows = table(x, flow.dim(), -1, index);
    const Table conditions = context_table(flow, context, rows.rows, index);
    Vector result(rows.rows);
    typename F::Results results{{}, nullptr, result.mutable_data()};
    const WithoutGil released;
    flow.map(Direction::inverse, rows, &conditions, results, threads);
    return result;
  }

  // The rows of a key from first on, float64 or float32, and their log densities when they are asked for.
  static py::tuple sample(const F& flow, std::uint64_t key, Index first, Index rows, const MaybeArray& context,
                          bool is_double, bool with_log_prob, int threads) {
    const Table conditions = context_table(flow, context, rows);
    auto points = empty_table(is_double, rows, flow.dim());
    Vector density(with_log_prob ? rows : 0);
    typename F::Results results{output(points), nullptr, with_log_prob ? density.mutable_data() : nullptr};
    {
      const WithoutGil released;
      flow.sample({key, first}, rows, &conditions, results, threads);
    }
    return py::make_tuple(points, density);
  }

  static py::tuple log_prob_and_grad(const F& flow, const py::array& x, const MaybeArray& context, int threads) {
    const Table rows = table(x, flow.dim()), conditions = context_table(flow, context, rows.rows);
    auto gradient = empty_table(rows.is_double, rows.rows, flow.dim());
    Vector density(rows.rows);
    typename F::Gradients gradients;
    gradients.input = output(gradient);
    gradients.log_prob = density.mutable_data();
    {
      const WithoutGil released;
      flow.vjp(Direction::inverse, rows, &conditions, {}, gradients, threads);
    }
    return py::make_tuple(density, gradient);
  }

  // The loss is -sum_i w_i log p(x_i) / normalizer over the rows in `index` (all of them without one); its gradient is
  // written to `gradient`, and the gradient's norm comes with it. dropout: the key of the units to drop, 0 for none.
  static std::pair<double, double> loss_and_grad(const F& flow, const py::array& x, const MaybeArray& context,
                                                 const std::optional<Vector>& weights, const MaybeIndex& index,
                                                 double normalizer, py::array_t<Scalar, py::array::c_style>& gradient,
                                                 std::uint64_t dropout, int threads) {
    const Table rows = table(x, flow.dim(), -1, index);
    const Table conditions = context_table(flow, context, rows.rows, index);
    if (weights && weights->size() != x.shape(0)) throw std::invalid_argument("weights");
    if (gradient.size() != flow.parameter_count()) throw std::invalid_argument("gradient");
    typename F::Seeds seeds;
    seeds.weights = data_or_null(weights);
    seeds.normalizer = -normalizer;
    seeds.dropout = dropout;
    typename F::Gradients gradients;
    gradients.parameters = gradient.mutable_data();
    double norm = 0;
    gradients.norm = &norm;
    const WithoutGil released;
    const double loss = flow.vjp(Direction::inverse, rows, &conditions, seeds, gradients, threads);
    return {loss, norm};
  }

  template <Direction direction>
  static py::tuple vjp(const F& flow, const py::array& input, const py::array& grad_output, const Vector& grad_log_det,
                       const MaybeArray& context, int threads) {
    const Table rows = table(input, flow.dim()), conditions = context_table(flow, context, rows.rows);
    const Table seed = table(grad_output, flow.dim(), rows.rows);
    if (grad_log_det.size() != rows.rows) throw std::invalid_argument("grad_log_det");
    auto grad_input = empty_table(rows.is_double, rows.rows, flow.dim());
    auto grad_context = empty_table(conditions.is_double, rows.rows, flow.context());
    py::array_t<Scalar> grad_parameters(flow.parameter_count());
    typename F::Seeds seeds;
    seeds.output = &seed;
    seeds.log_det = grad_log_det.data();
    typename F::Gradients gradients;
    gradients.input = output(grad_input);
    gradients.parameters = grad_parameters.mutable_data();
    if (context) gradients.context = output(grad_context);
    {
      const WithoutGil released;
      flow.vjp(direction, rows, &conditions, seeds, gradients, threads);
    }
    return py::make_tuple(grad_input, grad_parameters, context ? py::object(grad_context) : py::none());
  }
};

}  // namespace

void bind_flow(py::module_& module) {
  FlowBindings<float>::bind(module, "FlowFloat32");
  FlowBindings<double>::bind(module, "FlowFloat64");
}

}  // namespace pushforward::bindings
