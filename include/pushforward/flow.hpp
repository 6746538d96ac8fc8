// A normalizing flow: a density that is loaded from a file, scored, sampled and differentiated.
#pragma once

#include "pushforward/core.hpp"
#include "pushforward/model/file.hpp"

namespace pushforward {

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
    const Standardization& standardization = file.standardization();
    stack.set_standardization(standardization.shift, standardization.scale, standardization.cells);
    stack.set_context_standardization(file.context_standardization().shift, file.context_standardization().scale);
    return flow;
  }

  // A flow of a description, with parameters of zero. Throws std::invalid_argument, before they are allocated, when
  // there are more parameters than `most_parameters`.
  explicit Flow(const Json& description, Index most_parameters = std::numeric_limits<Index>::max())
      : stack_(make_stack<Scalar>(description, most_parameters)) {}

  // Row-major buffers: x and z are (rows, dim()), log_prob and log_det (rows,), context is (rows, context()) and null
  // for a flow without. NaN stands in rows whose input is not finite, or outside its support. Results do not depend on
  // the number of threads; several threads may call one flow at once. A wrong argument is a std::invalid_argument.

  // log p(x), in nats; -infinity outside the support.
  void log_prob(const Scalar* x, Index rows, double* log_prob, const Scalar* context = nullptr,
                int threads = default_threads()) const {
    const Table conditions = context_rows(context, rows, threads);
    engine::map(stack_, Direction::inverse, points(x, rows), &conditions, {{}, nullptr, log_prob}, threads);
  }

  // z -> x and log|det dx/dz|.
  void forward(const Scalar* z, Index rows, Scalar* x, double* log_det, const Scalar* context = nullptr,
               int threads = default_threads()) const {
    const Table conditions = context_rows(context, rows, threads);
    engine::map(stack_, Direction::forward, points(z, rows), &conditions, {{x, kIsDouble}, log_det, nullptr}, threads);
  }

  // Points drawn from the density, and log p of each; log_prob may be null. A key and the number of a row determine the
  // row, whatever else is drawn.
  void sample(const Draws& draws, Index rows, Scalar* x, double* log_prob = nullptr, const Scalar* context = nullptr,
              int threads = default_threads()) const {
    const Table conditions = context_rows(context, rows, threads);
    engine::sample(stack_, draws, rows, &conditions, {{x, kIsDouble}, nullptr, log_prob}, threads);
  }

  // x -> z and log|det dz/dx|.
  void inverse(const Scalar* x, Index rows, Scalar* z, double* log_det, const Scalar* context = nullptr,
               int threads = default_threads()) const {
    const Table conditions = context_rows(context, rows, threads);
    engine::map(stack_, Direction::inverse, points(x, rows), &conditions, {{z, kIsDouble}, log_det, nullptr}, threads);
  }

  // The mean of -log p(x) over the rows, of which there is at least one; its gradient (parameter_count(),) is written.
  double loss_and_grad(const Scalar* x, Index rows, Scalar* gradient, const Scalar* context = nullptr,
                       int threads = default_threads()) const {
    if (rows < 1) throw std::invalid_argument("a mean needs at least one row");
    const Table conditions = context_rows(context, rows, threads);
    Seeds seeds;
    seeds.normalizer = -static_cast<double>(rows);
    Gradients<Scalar> gradients;
    Scalar none;  // stands in for a gradient without entries, which may be null
    gradients.parameters = parameter_count() > 0 ? gradient : &none;
    return engine::vjp(stack_, Direction::inverse, points(x, rows), &conditions, seeds, gradients, threads);
  }

  Index dim() const { return stack_.dim(); }
  Index context() const { return stack_.context(); }
  Index parameter_count() const { return stack_.parameter_count(); }
  Scalar* parameters() { return stack_.parameters(); }
  const std::vector<ParameterBlock>& parameter_blocks() const { return stack_.parameter_blocks(); }

  // What the calls of the engine take.
  Stack<Scalar>& stack() { return stack_; }
  const Stack<Scalar>& stack() const { return stack_; }

 private:
  static constexpr bool kIsDouble = std::is_same_v<Scalar, double>;

  static Table table(const Scalar* data, Index rows, Index columns) {
    return {data, kIsDouble, rows, columns, columns, 1, nullptr};
  }

  Table points(const Scalar* data, Index rows) const { return table(data, rows, dim()); }

  Table context_rows(const Scalar* context, Index rows, int threads) const {
    if (rows < 0 || threads < 1) throw std::invalid_argument("a call needs rows >= 0 and threads >= 1");
    if (rows > 0 && (context != nullptr) != (stack_.context() > 0))
      throw std::invalid_argument(stack_.context() > 0 ? "this flow needs a context" : "this flow has no context");
    return table(context, rows, stack_.context());
  }

  Stack<Scalar> stack_;
};

#ifdef PUSHFORWARD_COMPILED
extern template class Flow<float>;
extern template class Flow<double>;
#endif

}  // namespace pushforward
