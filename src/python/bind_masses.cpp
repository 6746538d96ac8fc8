// A mass over rows of categories for Python, one class per precision.
#include "arrays.hpp"
#include "bindings.hpp"
#include "gil.hpp"
#include "pushforward/masses/calls.hpp"
#include "pushforward/model/make_masses.hpp"

namespace pushforward {

extern template class Network<float>;
extern template class Network<double>;
extern template Registry<MakeNetwork<float>>& networks<float>();
extern template Registry<MakeNetwork<double>>& networks<double>();

}  // namespace pushforward

namespace pushforward::bindings {

namespace {

template <class Scalar>
class MassesBindings {
 public:
  using M = Masses<Scalar>;

  static void bind(py::module_& module, const char* name) {
    using py::arg;
    const auto context = arg("context") = py::none(), index = arg("index") = py::none(),
               weights = arg("weights") = py::none(), threads = arg("threads") = py::none();
    const py::kw_only kw_only;
    py::class_<M>(module, name, "A mass over rows of categories.", py::module_local())
        .def(py::init(&make), arg("description"), kw_only, arg("most_parameters") = py::none(),
             "Build the masses of a JSON description, with parameters of zero. ValueError, before they are allocated, "
             "if there are more than `most_parameters`.")
        .def_property_readonly("parameters", &parameters, "All parameters, (p,): a writable view.")
        .def_property_readonly("parameter_blocks", &parameter_blocks,
                               "Name, shape and bound of the initial values of each block of the parameters.")
        .def("log_prob", &log_prob, arg("x"), kw_only, context, index, threads,
             "Return the log mass (n,) of the rows of codes in `index`, or of all.")
        .def("sample", &sample, arg("key"), arg("rows"), kw_only, arg("first") = 0, context, arg("counts") = py::none(),
             threads,
             "Draw rows first, first + 1, ... of a key: codes (n, columns), float64. With `counts`, among so many of "
             "the first codes of each column.")
        .def("complete", &complete, arg("key"), arg("known"), kw_only, arg("first") = 0, context,
             arg("counts") = py::none(), threads,
             "Draw the codes of rows (n, columns) that are negative, as `sample` does, given those before them. Return "
             "all codes, and the log mass of each given those before it; both (n, columns), float64.")
        .def("loss_and_grad", &loss_and_grad, arg("x"), arg("gradient").noconvert(), kw_only, context, weights, index,
             arg("normalizer") = py::none(), arg("dropout") = 0, threads,
             "Return -sum_i w_i log p(x_i) / normalizer over the rows in `index` (or all) and the norm of its "
             "gradient, which is written to `gradient` (p,). The normalizer is the number of rows if None; dropout is "
             "the key of the units to drop, 0 for none.");
  }

 private:
  static M make(const std::string& description, std::optional<Index> most_parameters) {
    return make_masses<Scalar>(Json::parse(description), most_parameters.value_or(std::numeric_limits<Index>::max()));
  }

  static int count(MaybeThreads threads) { return threads ? *threads : default_threads(); }

  // A writable view on the model's own vector, which it keeps alive.
  static py::array parameters(py::object self) {
    auto& model = self.cast<M&>();
    return py::array_t<Scalar>({model.parameter_count()}, {sizeof(Scalar)}, model.parameters(), self);
  }

  static py::list parameter_blocks(const M& model) {
    py::list blocks;
    for (const auto& block : model.parameter_blocks())
      blocks.append(py::make_tuple(block.name, py::tuple(py::cast(block.shape)), block.initial_bound));
    return blocks;
  }

  static Table context_table(const M& model, const MaybeArray& context, Index rows,
                             const MaybeIndex& index = std::nullopt) {
    if (!context) {
      if (model.context() > 0) throw std::invalid_argument("context");
      return {};
    }
    const bool one_row = context->ndim() == 1;
    return table(*context, model.context(), rows, one_row ? MaybeIndex() : index);
  }

  static Vector log_prob(const M& model, const py::array& x, const MaybeArray& context, const MaybeIndex& index,
                         MaybeThreads threads) {
    const Table rows = table(x, model.columns(), -1, index);
    const Table conditions = context_table(model, context, rows.rows, index);
    Vector result(rows.rows);
    double* to = result.mutable_data();
    const InterruptibleWithoutGil released;
    masses::log_prob(model, rows, &conditions, to, count(threads));
    return result;
  }

  // How many of the first codes of each column may come: all, or as many as are asked for.
  static std::vector<Index> counts_of(const M& model, const std::optional<std::vector<Index>>& counts) {
    std::vector<Index> all;
    for (const Category& category : model.categories()) all.push_back(category.count);
    if (!counts) return all;
    if (counts->size() != all.size()) throw std::invalid_argument("counts");
    for (std::size_t i = 0; i < all.size(); ++i)
      if ((*counts)[i] < 1 || (*counts)[i] > all[i]) throw std::invalid_argument("counts");
    return *counts;
  }

  static py::array sample(const M& model, std::uint64_t key, Index rows, Index first, const MaybeArray& context,
                          const std::optional<std::vector<Index>>& counts, MaybeThreads threads) {
    const std::vector<Index> all = counts_of(model, counts);
    const Table conditions = context_table(model, context, rows);
    auto codes = empty_table(true, rows, model.columns());
    const Output to = output(codes);
    {
      const InterruptibleWithoutGil released;
      masses::sample(model, {key, first}, rows, &conditions, all, to, count(threads));
    }
    return codes;
  }

  static py::tuple complete(const M& model, std::uint64_t key, const py::array& known, Index first,
                            const MaybeArray& context, const std::optional<std::vector<Index>>& counts,
                            MaybeThreads threads) {
    const std::vector<Index> all = counts_of(model, counts);
    const Table rows = table(known, model.columns(), -1);
    check_known(model, rows);
    const Table conditions = context_table(model, context, rows.rows);
    auto codes = empty_table(true, rows.rows, model.columns());
    py::array_t<double> log_masses({rows.rows, model.columns()});
    const Output to = output(codes);
    double* masses = log_masses.mutable_data();
    {
      const InterruptibleWithoutGil released;
      masses::complete(model, {key, first}, rows, &conditions, all, to, masses, count(threads));
    }
    return py::make_tuple(codes, log_masses);
  }

  // Codes are indices into the network's output. The engine reads what is not finite as code 0.
  static void check_known(const M& model, const Table& known) {
    if (!known.is_double) throw std::invalid_argument("known must be float64");
    for (Index row = 0; row < known.rows; ++row)
      for (Index column = 0; column < known.columns; ++column) {
        const double code = known.row<double>(row)[column * known.column_stride];
        const Index count = model.category(column).count;
        const bool is_code = code >= 0 && code < static_cast<double>(count) && code == std::floor(code);
        if (!is_code && !(code < 0 && std::isfinite(code)))
          throw std::invalid_argument("known[" + std::to_string(row) + ", " + std::to_string(column) + "] is " +
                                      std::to_string(code) + "; a code from 0 to " + std::to_string(count - 1) +
                                      " is expected, or a finite negative number for one to draw");
      }
  }

  static std::pair<double, double> loss_and_grad(const M& model, const py::array& x,
                                                 py::array_t<Scalar, py::array::c_style>& gradient,
                                                 const MaybeArray& context, const std::optional<Vector>& weights,
                                                 const MaybeIndex& index, std::optional<double> normalizer,
                                                 std::uint64_t dropout, MaybeThreads threads) {
    const Table rows = table(x, model.columns(), -1, index);
    const Table conditions = context_table(model, context, rows.rows, index);
    if (gradient.size() != model.parameter_count()) throw std::invalid_argument("gradient");
    if (weights && weights->size() != x.shape(0)) throw std::invalid_argument("weights");
    Seeds seeds;
    seeds.weights = data_or_null(weights);
    seeds.normalizer = -normalizer.value_or(static_cast<double>(rows.rows));
    seeds.dropout = dropout;
    Scalar* to = gradient.mutable_data();
    double norm = 0, loss = 0;
    {
      const WithoutGil released;
      loss = masses::vjp(model, rows, &conditions, seeds, to, &norm, count(threads));
    }
    return {loss, norm};
  }
};

}  // namespace

void bind_masses(py::module_& module) {
  MassesBindings<float>::bind(module, "MassesFloat32");
  MassesBindings<double>::bind(module, "MassesFloat64");
}

}  // namespace pushforward::bindings
