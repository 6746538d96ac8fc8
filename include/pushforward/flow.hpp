// A normalizing flow: a density that is loaded from a file, scored, sampled and differentiated.
#pragma once

#include "pushforward/core.hpp"
#include "pushforward/data/span.hpp"
#include "pushforward/model/file.hpp"
#include "pushforward/model/shape.hpp"

namespace pushforward {

// What values a feature may take: "Real", "Positive", "Interval", "Circle", "Pixel" or a name of the program's own,
// with the bounds, which are infinite where there is none.
struct FeatureSupport {
  std::string kind;
  double low, high;
};

// The calls over row-major buffers that a C++ program needs. They are made of the engine's calls over tables
// (engine/), which take any strides.
template <class Scalar>
class Flow {
 public:
  // A saved flow, from its file or from the bytes of one. Parameters are rounded when the file's are of more precision
  // than Scalar. Throws FileFormatError when the content is not a flow's, std::filesystem::filesystem_error when the
  // file cannot be read.
  static Flow load(const std::filesystem::path& path) {
    const std::string bytes = read_file(path);
    try {
      return parse(bytes);
    } catch (const FileFormatError& error) {
      throw FileFormatError(path.string() + ": " + error.what());
    }
  }

  static Flow parse(std::string_view bytes) {
    try {
      FileContent file(bytes);
      if (file.is_ensemble()) throw std::invalid_argument("it holds an ensemble, which Ensemble::load reads");
      return read(ModelFile(file.json(), std::move(file.tensors())));
    } catch (const std::invalid_argument& error) {
      throw FileFormatError(error.what());
    }
  }

  // One flow of a file. Throws std::invalid_argument when the content is not a flow's.
  static Flow read(ModelFile file) {
    Flow flow(file.model(), file.value_count());
    Stack<Scalar>& stack = flow.stack();
    Scalar* to = stack.parameters();
    for (const auto& block : stack.parameter_blocks()) to = file.take(block.name, block.shape, to);
    file.expect_all_taken();
    flow.columns_ = file.columns();
    flow.context_columns_ = file.context_columns();
    const Standardization& standardization = file.standardization();
    stack.set_standardization(standardization.shift, standardization.scale, standardization.cells);
    stack.set_context_standardization(file.context_standardization().shift, file.context_standardization().scale);
    return flow;
  }

  // A flow of a description, with parameters of zero. Throws std::invalid_argument, before they are allocated, when
  // there are more parameters than `most_parameters`.
  explicit Flow(const Json& description, Index most_parameters = std::numeric_limits<Index>::max())
      : stack_(make_stack<Scalar>(description, most_parameters)),
        shape_(shape_of(description, dim())),
        support_(supports_of(description, stack_.data_side(), dim())) {}

  // The calls take views of row-major buffers: x and z are (rows, dim()), log_prob and log_det (rows,). The context is
  // (rows, context()), or (context(),) for all rows, and empty for a flow without. x and z may be one buffer; others
  // must not overlap what a call writes. NaN stands in rows whose input is not finite, or outside its support. Results
  // do not depend on the number of threads; several threads may call one flow at once. A null pointer, another length
  // and any other wrong argument is a std::invalid_argument.

  // log p(x), in nats; -infinity outside the support.
  void log_prob(Span<const Scalar> x, Span<double> log_prob, Span<const Scalar> context = {},
                int threads = default_threads()) const {
    const Index rows = spans::rows_of(x, dim(), "x");
    spans::expect_size(log_prob, rows, "log_prob");
    spans::expect_apart(log_prob, x, context);
    const Table conditions = conditions_of(context, rows, threads);
    engine::map(stack_, Direction::inverse, points(x, rows), &conditions, {{}, nullptr, log_prob.data()}, threads);
  }

  // log p(x), and its derivatives by x, (rows, dim()).
  void log_prob_and_grad(Span<const Scalar> x, Span<double> log_prob, Span<Scalar> gradient,
                         Span<const Scalar> context = {}, int threads = default_threads()) const {
    const Index rows = spans::rows_of(x, dim(), "x");
    spans::expect_size(log_prob, rows, "log_prob");
    spans::expect_size(gradient, rows * dim(), "gradient");
    spans::expect_apart(log_prob, x, context, gradient);
    spans::expect_apart(gradient, x, context);
    const Table conditions = conditions_of(context, rows, threads);
    Gradients<Scalar> gradients;
    gradients.input = {gradient.data(), kIsDouble};
    gradients.log_prob = log_prob.data();
    engine::vjp(stack_, Direction::inverse, points(x, rows), &conditions, {}, gradients, threads);
  }

  // z -> x and log|det dx/dz|, which is not computed if its view is empty.
  void forward(Span<const Scalar> z, Span<Scalar> x, Span<double> log_det, Span<const Scalar> context = {},
               int threads = default_threads()) const {
    map(Direction::forward, z, "z", x, "x", log_det, context, threads);
  }

  // x -> z and log|det dz/dx|, which is not computed if its view is empty.
  void inverse(Span<const Scalar> x, Span<Scalar> z, Span<double> log_det, Span<const Scalar> context = {},
               int threads = default_threads()) const {
    map(Direction::inverse, x, "x", z, "z", log_det, context, threads);
  }

  // The derivatives of a scalar from those by the results of a call: of forward, of inverse, and of log_prob. The
  // derivative by the parameters (parameter_count(),) is a sum over rows, that by the context (rows, context()) has a
  // row for each. What has an empty view is not computed. In log_prob_vjp a row whose dlog_prob is 0 counts for
  // nothing, whatever it holds.
  void forward_vjp(Span<const Scalar> z, Span<const Scalar> dx, Span<const double> dlog_det, Span<Scalar> dz,
                   Span<Scalar> dparameters = {}, Span<Scalar> dcontext = {}, Span<const Scalar> context = {},
                   int threads = default_threads()) const {
    map_vjp(Direction::forward, z, "z", dx, "dx", dlog_det, dz, dparameters, dcontext, context, threads);
  }

  void inverse_vjp(Span<const Scalar> x, Span<const Scalar> dz, Span<const double> dlog_det, Span<Scalar> dx,
                   Span<Scalar> dparameters = {}, Span<Scalar> dcontext = {}, Span<const Scalar> context = {},
                   int threads = default_threads()) const {
    map_vjp(Direction::inverse, x, "x", dz, "dz", dlog_det, dx, dparameters, dcontext, context, threads);
  }

  void log_prob_vjp(Span<const Scalar> x, Span<const double> dlog_prob, Span<Scalar> dx, Span<Scalar> dparameters = {},
                    Span<Scalar> dcontext = {}, Span<const Scalar> context = {},
                    int threads = default_threads()) const {
    const Index rows = spans::rows_of(x, dim(), "x");
    spans::expect_size(dlog_prob, rows, "dlog_prob");
    spans::expect_apart(dx, dlog_prob);
    spans::expect_apart(dparameters, dlog_prob);
    spans::expect_apart(dcontext, dlog_prob);
    Seeds seeds;
    seeds.weights = dlog_prob.data();
    vjp(Direction::inverse, points(x, rows), x, seeds, dx, dparameters, dcontext, context, threads);
  }

  // Points drawn from the density, and log p of each unless its view is empty. A key and the number of a row determine
  // the row, whatever else is drawn.
  void sample(const Draws& draws, Span<Scalar> x, Span<double> log_prob = {}, Span<const Scalar> context = {},
              int threads = default_threads()) const {
    const Index rows = spans::rows_of(x, dim(), "x");
    if (!log_prob.empty()) spans::expect_size(log_prob, rows, "log_prob");
    if (draws.first_row < 0) throw std::invalid_argument("rows to draw are numbered from 0");
    spans::expect_apart(x, log_prob, context);
    spans::expect_apart(log_prob, context);
    const Table conditions = conditions_of(context, rows, threads);
    engine::sample(stack_, draws, rows, &conditions, {{x.data(), kIsDouble}, nullptr, log_prob.data()}, threads);
  }

  // The mean of -log p(x) over the rows, of which there is at least one; its gradient (parameter_count(),) is written.
  double loss_and_grad(Span<const Scalar> x, Span<Scalar> gradient, Span<const Scalar> context = {},
                       int threads = default_threads()) const {
    const Index rows = spans::rows_of(x, dim(), "x");
    if (rows < 1) throw std::invalid_argument("a mean needs at least one row");
    spans::expect_size(gradient, parameter_count(), "gradient");
    spans::expect_apart(gradient, x, context);
    const Table conditions = conditions_of(context, rows, threads);
    Seeds seeds;
    seeds.normalizer = -static_cast<double>(rows);
    Gradients<Scalar> gradients;
    Scalar none;  // stands in for a gradient without entries, which may be null
    gradients.parameters = parameter_count() > 0 ? gradient.data() : &none;
    return engine::vjp(stack_, Direction::inverse, points(x, rows), &conditions, seeds, gradients, threads);
  }

  // The same calls on pointers and a number of rows. The context has a row for each; it is null for a flow without.

  void log_prob(const Scalar* x, Index rows, double* log_prob, const Scalar* context = nullptr,
                int threads = default_threads()) const {
    this->log_prob(spans::view(x, rows, dim()), spans::view(log_prob, rows, 1),
                   spans::context_view(context, rows, this->context()), threads);
  }
  void log_prob_and_grad(const Scalar* x, Index rows, double* log_prob, Scalar* gradient,
                         const Scalar* context = nullptr, int threads = default_threads()) const {
    log_prob_and_grad(spans::view(x, rows, dim()), spans::view(log_prob, rows, 1), spans::view(gradient, rows, dim()),
                      spans::context_view(context, rows, this->context()), threads);
  }
  // log_det may be null.
  void forward(const Scalar* z, Index rows, Scalar* x, double* log_det, const Scalar* context = nullptr,
               int threads = default_threads()) const {
    forward(spans::view(z, rows, dim()), spans::view(x, rows, dim()), spans::maybe_view(log_det, rows, 1),
            spans::context_view(context, rows, this->context()), threads);
  }
  void inverse(const Scalar* x, Index rows, Scalar* z, double* log_det, const Scalar* context = nullptr,
               int threads = default_threads()) const {
    inverse(spans::view(x, rows, dim()), spans::view(z, rows, dim()), spans::maybe_view(log_det, rows, 1),
            spans::context_view(context, rows, this->context()), threads);
  }
  // log_prob may be null.
  void sample(const Draws& draws, Index rows, Scalar* x, double* log_prob = nullptr, const Scalar* context = nullptr,
              int threads = default_threads()) const {
    sample(draws, spans::view(x, rows, dim()), spans::maybe_view(log_prob, rows, 1),
           spans::context_view(context, rows, this->context()), threads);
  }
  double loss_and_grad(const Scalar* x, Index rows, Scalar* gradient, const Scalar* context = nullptr,
                       int threads = default_threads()) const {
    return loss_and_grad(spans::view(x, rows, dim()), {gradient, static_cast<std::size_t>(parameter_count())},
                         spans::context_view(context, rows, this->context()), threads);
  }

  Index dim() const { return stack_.dim(); }
  // Channels, height and width, if features are pixels: then a row is an image in this order, the column last.
  const std::optional<ImageShape>& shape() const { return shape_; }
  Index context() const { return stack_.context(); }
  Index parameter_count() const { return stack_.parameter_count(); }
  Scalar* parameters() { return stack_.parameters(); }
  const std::vector<ParameterBlock>& parameter_blocks() const { return stack_.parameter_blocks(); }
  // Names of the features and of the conditioning features; empty if they are not known.
  const std::vector<std::string>& columns() const { return columns_; }
  const std::vector<std::string>& context_columns() const { return context_columns_; }
  // What values each feature may take.
  const std::vector<FeatureSupport>& support() const { return support_; }

  // What the calls of the engine take.
  Stack<Scalar>& stack() { return stack_; }
  const Stack<Scalar>& stack() const { return stack_; }

 private:
  static constexpr bool kIsDouble = std::is_same_v<Scalar, double>;

  Table points(Span<const Scalar> x, Index rows) const { return {x.data(), kIsDouble, rows, dim(), dim(), 1, nullptr}; }

  // One row of the context stands for all.
  Table conditions_of(Span<const Scalar> given, Index rows, int threads) const {
    if (threads < 1) throw std::invalid_argument("a call needs threads >= 1");
    if (rows > 0) spans::expect_context(!given.empty(), context());
    const bool one = static_cast<Index>(given.size()) == context();
    if (rows > 0 && !one) spans::expect_size(given, rows * context(), "context");
    return {given.data(), kIsDouble, rows, context(), one ? 0 : context(), 1, nullptr};
  }

  void map(Direction direction, Span<const Scalar> from, const char* from_name, Span<Scalar> to, const char* to_name,
           Span<double> log_det, Span<const Scalar> context, int threads) const {
    const Index rows = spans::rows_of(from, dim(), from_name);
    spans::expect_size(to, rows * dim(), to_name);
    if (!log_det.empty()) spans::expect_size(log_det, rows, "log_det");
    if (to.data() != from.data()) spans::expect_apart(to, from);
    spans::expect_apart(to, context);
    spans::expect_apart(log_det, from, to, context);
    const Table conditions = conditions_of(context, rows, threads);
    engine::map(stack_, direction, points(from, rows), &conditions, {{to.data(), kIsDouble}, log_det.data(), nullptr},
                threads);
  }

  void map_vjp(Direction direction, Span<const Scalar> from, const char* from_name, Span<const Scalar> dto,
               const char* dto_name, Span<const double> dlog_det, Span<Scalar> dfrom, Span<Scalar> dparameters,
               Span<Scalar> dcontext, Span<const Scalar> context, int threads) const {
    const Index rows = spans::rows_of(from, dim(), from_name);
    spans::expect_size(dto, rows * dim(), dto_name);
    spans::expect_size(dlog_det, rows, "dlog_det");
    spans::expect_apart(dfrom, dto, dlog_det);
    spans::expect_apart(dparameters, dto, dlog_det);
    spans::expect_apart(dcontext, dto, dlog_det);
    const Table output = points(dto, rows);
    Seeds seeds;
    seeds.output = &output;
    seeds.log_det = dlog_det.data();
    vjp(direction, points(from, rows), from, seeds, dfrom, dparameters, dcontext, context, threads);
  }

  void vjp(Direction direction, const Table& input, Span<const Scalar> from, const Seeds& seeds, Span<Scalar> dfrom,
           Span<Scalar> dparameters, Span<Scalar> dcontext, Span<const Scalar> context, int threads) const {
    const Index rows = input.rows;
    if (!dfrom.empty()) spans::expect_size(dfrom, rows * dim(), "the derivative by the points");
    if (!dparameters.empty()) spans::expect_size(dparameters, parameter_count(), "dparameters");
    if (!dcontext.empty()) spans::expect_size(dcontext, rows * this->context(), "dcontext");
    spans::expect_apart(dfrom, from, dparameters, dcontext, context);
    spans::expect_apart(dparameters, from, dcontext, context);
    spans::expect_apart(dcontext, from, context);
    const Table conditions = conditions_of(context, rows, threads);
    Gradients<Scalar> gradients;
    if (!dfrom.empty()) gradients.input = {dfrom.data(), kIsDouble};
    if (!dcontext.empty()) gradients.context = {dcontext.data(), kIsDouble};
    if (!dparameters.empty()) gradients.parameters = dparameters.data();
    engine::vjp(stack_, direction, input, &conditions, seeds, gradients, threads);
  }

  static std::vector<FeatureSupport> supports_of(const Json& description, const DataSide& data_side, Index dim) {
    std::vector<FeatureSupport> result;
    const auto entries = description.find("support");  // older files have none: their features are real
    for (Index i = 0; i < dim; ++i) {
      const auto bounds = data_side.bounds(i);
      const auto end = [](double bound) {
        return std::abs(bound) < Support::kMost ? bound : std::copysign(std::numeric_limits<double>::infinity(), bound);
      };
      const std::string kind =
          entries == description.end() ? "Real" : json::string_member((*entries)[static_cast<std::size_t>(i)], "kind");
      result.push_back({kind, end(bounds.low), end(bounds.high)});
    }
    return result;
  }

  Stack<Scalar> stack_;
  std::optional<ImageShape> shape_;
  std::vector<FeatureSupport> support_;
  std::vector<std::string> columns_, context_columns_;
};

#ifdef PUSHFORWARD_COMPILED
extern template class Flow<float>;
extern template class Flow<double>;
#endif

}  // namespace pushforward
