// The laws of the core without Python, for the sanitizers to watch: round trips, adjoints, equal bits for any number of
// threads, rows that are not finite, calls from several threads at once, the pool of threads. Prints what fails and
// returns 1.
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstring>
#include <functional>
#include <random>
#include <thread>

#include "expect.hpp"
#include "pushforward/data/supports.hpp"
#include "pushforward/layer/image_networks.hpp"
#include "pushforward/model/make_stack.hpp"
#include "pushforward/network/recomputed.hpp"
#include "pushforward/pushforward.hpp"
#include "pushforward/transform/transforms.hpp"

namespace {

using namespace pushforward;

template <class Scalar>
using Values = std::vector<Scalar>;

// The same numbers with every standard library, which std::normal_distribution does not promise.
class Random {
 public:
  explicit Random(std::uint64_t seed) : bits_(seed) {}
  double uniform(double low, double high) { return low + (high - low) * static_cast<double>(bits_() >> 11) * 0x1p-53; }
  template <class Scalar>
  Values<Scalar> uniforms(Index count, double low, double high) {
    Values<Scalar> values(static_cast<std::size_t>(count));
    for (auto& value : values) value = static_cast<Scalar>(uniform(low, high));
    return values;
  }

 private:
  std::mt19937_64 bits_;
};

Json coupling(Json transform, std::vector<Index> hidden, const char* activation, Index dim, Index number) {
  std::vector<bool> kept;
  for (Index i = 0; i < dim; ++i) kept.push_back(dim > 1 && (i % 2 == 0) == (number % 2 == 0));
  return {{"kind", "Coupling"},
          {"transform", std::move(transform)},
          {"conditioner", {{"kind", "MLP"}, {"hidden", std::move(hidden)}, {"activation", activation}}},
          {"kept", kept}};
}

Json permutation(Index dim) {
  std::vector<Index> indices;
  for (Index i = 0; i < dim; ++i) indices.push_back((i + 1) % dim);
  return {{"kind", "Permutation"}, {"indices", indices}};
}

const Json kAdditive = {{"kind", "Additive"}};
const Json kAffine = {{"kind", "Affine"}, {"max_log_scale", 2.0}};
const Json kSpline = {{"kind", "RationalQuadratic"}, {"bins", 5},          {"bound", 1.5},
                      {"min_width", 1e-3},           {"min_height", 1e-3}, {"min_slope", 1e-3}};
const Json kActNorm = {{"kind", "ActNorm"}};
const Json kHouseholder = {{"kind", "Householder"}, {"count", 3}};
const Json kResNet = {{"kind", "ResNet"}, {"hidden", 9}, {"blocks", 2}, {"activation", "gelu"}, {"dropout", 0.5}};

Json kept_moved_too(Json layer) {
  layer["unconditional"] = true;
  return layer;
}

Json residual(Json layer) {
  layer["conditioner"] = kResNet;
  return layer;
}

// One feature a pass, or two passes; hidden units of all degrees.
Json autoregressive(const Json& transform, Json conditioner, Index width, Index dim, bool two, const char* one_pass) {
  std::vector<Index> passes, units;
  for (Index i = 0; i < dim; ++i) passes.push_back(two ? i % 2 : i);
  const Index count = two ? std::min<Index>(dim, 2) : dim;
  for (Index i = 0; i < count; ++i) units.push_back(width * (i + 1) / count - width * i / count);
  return {{"kind", "Autoregressive"}, {"transform", transform},       {"conditioner", std::move(conditioner)},
          {"order", "natural"},       {"degrees", nullptr},           {"one_pass", one_pass},
          {"passes", passes},         {"units", Json::array({units})}};
}

Json linear(Index dim) {
  Json layer = permutation(dim);
  layer["kind"] = "LU";
  return layer;
}

struct Case {
  const char* name;
  std::function<Json(Index dim)> layers;
  bool positive = false;           // every second feature, from the first on
  Json context_network = nullptr;  // for flows with a context
  std::vector<Index> shape = {};   // of images
  bool reads_no_context = false;
};

const Case kCases[] = {
    {"no layer", [](Index) { return Json::array(); }},
    {"additive", [](Index dim) { return Json::array({coupling(kAdditive, {7, 5}, "tanh", dim, 0)}); }},
    {"affine relu", [](Index dim) { return Json::array({coupling(kAffine, {17}, "relu", dim, 1)}); }},
    {"affine silu", [](Index dim) { return Json::array({coupling(kAffine, {16, 9}, "silu", dim, 0)}); }},
    {"affine linear", [](Index dim) { return Json::array({coupling(kAffine, {}, "relu", dim, 1)}); }},
    {"spline", [](Index dim) { return Json::array({coupling(kSpline, {6}, "tanh", dim, 0)}); }},
    {"actnorm", [](Index) { return Json::array({kActNorm}); }},
    {"permutation", [](Index dim) { return Json::array({permutation(dim), kActNorm}); }},
    {"realnvp",
     [](Index dim) {
       return Json::array({kActNorm, coupling(kAffine, {8, 8}, "relu", dim, 0), permutation(dim), kActNorm,
                           coupling(kAffine, {8}, "silu", dim, 1), permutation(dim), permutation(dim),
                           coupling(kAdditive, {4}, "tanh", dim, 2)});
     }},
    {"spline, kept moved too",
     [](Index dim) { return Json::array({kept_moved_too(coupling(kSpline, {6}, "elu", dim, 1))}); }},
    {"residual", [](Index dim) { return Json::array({residual(coupling(kSpline, {}, "relu", dim, 0))}); }},
    {"linear", [](Index dim) { return Json::array({linear(dim), kHouseholder, linear(dim)}); }},
    {"maf",
     [](Index dim) {
       const Json network = {{"kind", "MLP"}, {"hidden", {11}}, {"activation", "leaky_relu"}};
       return Json::array({autoregressive(kSpline, network, 11, dim, false, "inverse")});
     }},
    {"iaf",
     [](Index dim) { return Json::array({autoregressive(kAffine, kResNet, 9, dim, true, "forward"), linear(dim)}); }},
    {"positive", [](Index dim) { return Json::array({kActNorm, coupling(kAffine, {7}, "tanh", dim, 0)}); }, true},
    {"context network",
     [](Index dim) {
       return Json::array({coupling(kSpline, {6}, "tanh", dim, 0), kActNorm,
                           autoregressive(kAffine, kResNet, 9, dim, false, "inverse")});
     },
     false,
     {{"kind", "ContextNetwork"}, {"features", 4}, {"network", kResNet}}},
};

// A coupling of images: mask(channel, row, column) tells what is kept.
template <class Mask>
Json image_coupling(const Json& transform, Json conditioner, const std::vector<Index>& shape, Mask&& mask) {
  std::vector<bool> kept;
  for (Index channel = 0; channel < shape[0]; ++channel)
    for (Index row = 0; row < shape[1]; ++row)
      for (Index column = 0; column < shape[2]; ++column) kept.push_back(mask(channel, row, column));
  return {{"kind", "Coupling"}, {"transform", transform}, {"conditioner", std::move(conditioner)}, {"kept", kept}};
}

Json conv_net(Index hidden, Json kernel, const char* padding, const char* activation) {
  return {{"kind", "ConvNet"},  {"hidden", hidden},         {"layers", 2},       {"kernel", std::move(kernel)},
          {"padding", padding}, {"activation", activation}, {"symmetric", false}};
}

Json symmetric(Json network) {
  network["symmetric"] = true;
  return network;
}

const Json kConvResNet = {{"kind", "ConvResNet"}, {"hidden", 5},          {"blocks", 1},   {"kernel", 3},
                          {"padding", "zero"},    {"activation", "gelu"}, {"dropout", 0.5}};
const Json kSqueeze = {{"kind", "Squeeze"}};
const Json kSplit = {{"kind", "Split"}};
const Json kConv1x1 = {{"kind", "Conv1x1"}, {"order", "random"}, {"indices", {2, 0, 3, 1}}};

bool even_pixels(Index, Index row, Index column) { return (row + column) % 2 == 0; }
bool first_channels(Index channel, Index, Index) { return channel < 2; }

const Case kImages[] = {
    {"checkerboard, circular",
     [](Index) {
       return Json::array({image_coupling(kAffine, conv_net(18, 3, "circular", "tanh"), {1, 3, 4}, &even_pixels)});
     },
     false,
     nullptr,
     {1, 3, 4}},
    {"symmetric",
     [](Index) {
       return Json::array(
           {image_coupling(kAffine, symmetric(conv_net(5, 3, "circular", "tanh")), {1, 2, 4}, &even_pixels)});
     },
     false,
     nullptr,
     {1, 2, 4},
     true},
    {"multi-scale",
     [](Index) {
       const std::vector<Index> shape = {4, 2, 2};
       return Json::array({kActNorm, kSplit, kConv1x1,
                           image_coupling(kSpline, conv_net(4, {3, 1, 5}, "zero", "relu"), shape, &first_channels),
                           kActNorm, kept_moved_too(image_coupling(kAffine, kConvResNet, shape, &even_pixels)),
                           kSqueeze});
     },
     false,
     nullptr,
     {1, 4, 4}},
};

Json support(Index dim, bool positive) {
  Json entries = Json::array();
  for (Index i = 0; i < dim; ++i) entries.push_back({{"kind", positive && i % 2 == 0 ? "Positive" : "Real"}});
  return entries;
}

template <class Scalar>
Table table(const Values<Scalar>& values, Index columns) {
  const auto rows = columns > 0 ? static_cast<Index>(values.size()) / columns : 0;
  return {values.data(), std::is_same_v<Scalar, double>, rows, columns, columns, 1, nullptr};
}

template <class Scalar>
bool same_bits(const Values<Scalar>& a, const Values<Scalar>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(Scalar)) == 0);
}

// A flow away from every special value, and the rows that it is tried on.
template <class Scalar>
struct Trial {
  std::string where;
  Index dim, context, rows;
  Flow<Scalar> flow;
  Values<Scalar> z, condition;

  Trial(const Case& tried, Index features, Index conditions, Index count)
      : where(std::string(tried.name) + ", dim " + std::to_string(features) + ", context " +
              std::to_string(conditions) + ", rows " + std::to_string(count) + ", " +
              (std::is_same_v<Scalar, float> ? "float" : "double")),
        dim(features),
        context(conditions),
        rows(count),
        flow(description(tried, features, conditions)) {
    Random random(static_cast<std::uint64_t>(features * 100 + conditions));
    for (Index i = 0; i < flow.parameter_count(); ++i) flow.parameters()[i] = Scalar(random.uniform(-0.4, 0.4));
    flow.stack().set_standardization(random.uniforms<double>(dim, -1, 1), random.uniforms<double>(dim, 0.5, 3));
    flow.stack().set_context_standardization(random.uniforms<double>(context, 1, 2),
                                             random.uniforms<double>(context, 2, 3));
    z = random.uniforms<Scalar>(rows * dim, -2, 2);
    condition = random.uniforms<Scalar>(rows * context, -2, 4);
  }

  static Json description(const Case& tried, Index features, Index conditions) {
    Json model = {{"dim", features},
                  {"context", conditions},
                  {"base", {{"kind", "Normal"}}},
                  {"support", support(features, tried.positive)},
                  {"layers", tried.layers(features)}};
    if (!tried.shape.empty()) model["shape"] = tried.shape;
    if (conditions > 0 && !tried.context_network.is_null()) model["context_network"] = tried.context_network;
    return model;
  }

  const Scalar* conditions() const { return context > 0 ? condition.data() : nullptr; }
  std::size_t count() const { return static_cast<std::size_t>(rows); }

  struct Point {
    Values<Scalar> values;
    Values<double> log_det;
  };
  Point forward(int threads) const {
    Point x{Values<Scalar>(z.size()), Values<double>(count())};
    flow.forward(z.data(), rows, x.values.data(), x.log_det.data(), conditions(), threads);
    return x;
  }
  Point inverse(const Values<Scalar>& x, int threads) const {
    Point result{Values<Scalar>(x.size()), Values<double>(count())};
    flow.inverse(x.data(), rows, result.values.data(), result.log_det.data(), conditions(), threads);
    return result;
  }
  Values<double> log_prob(const Values<Scalar>& x, int threads) const {
    Values<double> density(count());
    flow.log_prob(x.data(), rows, density.data(), conditions(), threads);
    return density;
  }
  std::pair<double, Values<Scalar>> loss_and_grad(const Values<Scalar>& x, int threads) const {
    Values<Scalar> gradient(static_cast<std::size_t>(flow.parameter_count()));
    const double loss = flow.loss_and_grad(x.data(), rows, gradient.data(), conditions(), threads);
    return {loss, std::move(gradient)};
  }
};

template <class Scalar>
void round_trip(const Trial<Scalar>& trial) {
  const double tolerance = std::is_same_v<Scalar, float> ? 2e-5 : 1e-12;
  const auto x = trial.forward(1);
  const auto back = trial.inverse(x.values, 1);
  bool near = true, opposite = true;
  for (std::size_t i = 0; i < trial.z.size(); ++i)
    near &= std::abs(static_cast<double>(back.values[i]) - static_cast<double>(trial.z[i])) < 20 * tolerance;
  for (std::size_t i = 0; i < trial.count(); ++i)
    opposite &= std::abs(x.log_det[i] + back.log_det[i]) < tolerance * static_cast<double>(10 * trial.dim);
  expect(near, trial.where, "inverse(forward(z)) is not z");
  expect(opposite, trial.where, "log_det of forward and inverse are not opposite");
}

template <class Scalar>
void bits(const Trial<Scalar>& trial) {
  const auto x = trial.forward(1);
  const auto density = trial.log_prob(x.values, 1);
  for (const int threads : {2, 3, 8}) {
    const auto again = trial.forward(threads);
    expect(same_bits(x.values, again.values) && same_bits(x.log_det, again.log_det), trial.where,
           "forward depends on the number of threads");
    expect(same_bits(density, trial.log_prob(x.values, threads)), trial.where,
           "log_prob depends on the number of threads");
    if (trial.rows > 0) {
      const auto one = trial.loss_and_grad(x.values, 1), many = trial.loss_and_grad(x.values, threads);
      expect(one.first == many.first && same_bits(one.second, many.second), trial.where,
             "loss_and_grad depends on the number of threads");
    }
  }
}

template <class Scalar>
void bad_rows(const Trial<Scalar>& trial) {
  if (trial.rows < 3) return;
  auto x = trial.forward(1).values;
  const auto density = trial.log_prob(x, 1);
  x[static_cast<std::size_t>(trial.dim)] = std::numeric_limits<Scalar>::quiet_NaN();
  x[static_cast<std::size_t>(2 * trial.dim)] = std::numeric_limits<Scalar>::infinity();
  auto spoiled = trial.log_prob(x, 1);
  expect(std::isnan(spoiled[1]) && std::isnan(spoiled[2]), trial.where, "a bad row has a density");
  std::copy_n(density.begin() + 1, 2, spoiled.begin() + 1);
  expect(same_bits(density, spoiled), trial.where, "a bad row changes another");
  expect(std::isnan(trial.loss_and_grad(x, 1).first), trial.where, "a bad row leaves the loss a number");
}

// The adjoint of a map against central differences along one random direction through everything it depends on.
void adjoint(Trial<double>& trial, Direction direction) {
  constexpr double kStep = 1e-5;
  auto& flow = trial.flow;
  Random random(7);
  const auto count = flow.parameter_count();
  const auto start = Values<double>(flow.parameters(), flow.parameters() + count);
  const auto input = direction == Direction::forward ? trial.z : trial.forward(1).values;
  const auto condition = trial.condition;
  const auto seeds = random.uniforms<double>(trial.rows * trial.dim, -1, 1);
  const auto log_det_seeds = random.uniforms<double>(trial.rows, -1, 1);
  auto dinput = random.uniforms<double>(trial.rows * trial.dim, -1, 1);
  // A positive feature near 0 is moved by less than itself.
  if (direction == Direction::inverse)
    for (std::size_t i = 0; i < dinput.size(); ++i) dinput[i] *= std::min(1.0, std::abs(input[i]));
  const auto dcondition = random.uniforms<double>(trial.rows * trial.context, -1, 1);
  const auto dparameters = random.uniforms<double>(count, -1, 1);

  const auto value = [&](double t) {
    auto moved = input;
    for (std::size_t i = 0; i < moved.size(); ++i) moved[i] += t * dinput[i];
    for (std::size_t i = 0; i < condition.size(); ++i) trial.condition[i] = condition[i] + t * dcondition[i];
    for (std::size_t i = 0; i < start.size(); ++i) flow.parameters()[i] = start[i] + t * dparameters[i];
    if (direction == Direction::forward) trial.z = moved;
    const auto result = direction == Direction::forward ? trial.forward(1) : trial.inverse(moved, 1);
    double sum = 0;
    for (std::size_t i = 0; i < seeds.size(); ++i) sum += seeds[i] * result.values[i];
    for (std::size_t i = 0; i < log_det_seeds.size(); ++i) sum += log_det_seeds[i] * result.log_det[i];
    return sum;
  };
  const double numerical = (value(kStep) - value(-kStep)) / (2 * kStep);
  value(0);

  Values<double> grad_input(input.size()), grad_condition(condition.size()), grad_parameters(start.size());
  if (direction == Direction::forward)
    flow.forward_vjp(input, seeds, log_det_seeds, grad_input, grad_parameters, grad_condition, condition, 1);
  else
    flow.inverse_vjp(input, seeds, log_det_seeds, grad_input, grad_parameters, grad_condition, condition, 1);
  double analytical = 0, size = 1;
  const auto add = [&](const Values<double>& gradient, const Values<double>& step) {
    for (std::size_t i = 0; i < gradient.size(); ++i) {
      analytical += gradient[i] * step[i];
      size += std::abs(gradient[i] * step[i]);
    }
  };
  add(grad_input, dinput);
  add(grad_condition, dcondition);
  add(grad_parameters, dparameters);
  expect(std::abs(analytical - numerical) < 1e-6 * size, trial.where,
         direction == Direction::forward ? "the adjoint of forward is not its derivative"
                                         : "the adjoint of inverse is not its derivative");
}

void loss_gradient(Trial<double>& trial) {
  if (trial.rows == 0) return;
  constexpr double kStep = 1e-5;
  const auto x = trial.forward(1).values;
  const auto gradient = trial.loss_and_grad(x, 1).second;
  const auto step = Random(8).uniforms<double>(trial.flow.parameter_count(), -1, 1);
  const auto loss = [&](double t) {
    for (std::size_t i = 0; i < step.size(); ++i) trial.flow.parameters()[i] += t * step[i];
    const double value = trial.loss_and_grad(x, 1).first;
    for (std::size_t i = 0; i < step.size(); ++i) trial.flow.parameters()[i] -= t * step[i];
    return value;
  };
  const double numerical = (loss(kStep) - loss(-kStep)) / (2 * kStep);
  double analytical = 0, size = 1;
  for (std::size_t i = 0; i < step.size(); ++i) {
    analytical += gradient[i] * step[i];
    size += std::abs(gradient[i] * step[i]);
  }
  expect(std::abs(analytical - numerical) < 1e-6 * size, trial.where, "the loss's gradient is not its derivative");
}

// Tile columns of random numbers.
template <class Scalar>
class RandomColumns {
 public:
  RandomColumns(Random& random, Index count)
      : values_(random.uniforms<Scalar>(count * kTileRows + kAlignment, -1, 1)),
        size_(static_cast<std::size_t>(count * kTileRows)) {
    void* start = values_.data();
    std::size_t space = values_.size() * sizeof(Scalar);
    start_ = static_cast<Scalar*>(std::align(64, size_ * sizeof(Scalar), start, space));
  }
  RandomColumns(const RandomColumns&) = delete;

  Columns<Scalar> columns() { return Columns<Scalar>(start_); }
  void copy(const RandomColumns& other) { std::copy_n(other.start_, size_, start_); }

 private:
  static constexpr Index kAlignment = 16;  // numbers
  Values<Scalar> values_;
  std::size_t size_;
  Scalar* start_;
};

// A network that keeps its input alone gives what the network gives, to the last bit.
template <class Scalar>
void recomputed() {
  const Json description = conv_net(5, 3, "circular", "silu");
  const auto transform = transforms<Scalar>().of(kAffine)(kAffine);
  const ImagePorts ports{Sites{3, 4, {0, 2, 5, 7, 8, 10}}, Sites{3, 4, {1, 3, 4, 6, 9, 11}}, 1, 2, 2};
  const auto make = [&] { return image_networks<Scalar>().of(description)(description, ports, *transform); };
  const Index inputs = 8, outputs = 12, rows = 30, padded = 32;
  const auto plain = make();
  const Recomputed<Scalar> again(make(), inputs, outputs);
  expect(again.cache_columns() == inputs && plain->cache_columns() > inputs, "recomputed", "more than inputs is kept");

  Random random(9);
  const auto parameters = random.uniforms<Scalar>(size_of(plain->parameters()), -1, 1);
  RandomColumns<Scalar> input(random, plain->cache_columns()), doutput(random, outputs);
  Values<Scalar> output[2], dinput[2], dparameters[2];
  for (int i = 0; i < 2; ++i) {
    const Conditioner<Scalar>& network = i == 0 ? *plain : static_cast<const Conditioner<Scalar>&>(again);
    RandomColumns<Scalar> cache(random, plain->cache_columns()), result(random, outputs),
        scratch(random, std::max(network.evaluate_scratch_columns(), network.vjp_scratch_columns()));
    cache.copy(input);
    network.evaluate(parameters.data(), {}, padded, cache.columns(), scratch.columns(), result.columns());
    for (Index column = 0; column < outputs; ++column)
      output[i].insert(output[i].end(), result.columns()[column], result.columns()[column] + padded);
    dparameters[i].resize(parameters.size());
    network.vjp(parameters.data(), {}, rows, padded, cache.columns(), doutput.columns(), dparameters[i].data(),
                scratch.columns());
    for (Index column = 0; column < inputs; ++column)
      dinput[i].insert(dinput[i].end(), cache.columns()[column], cache.columns()[column] + padded);
  }
  expect(
      same_bits(output[0], output[1]) && same_bits(dinput[0], dinput[1]) && same_bits(dparameters[0], dparameters[1]),
      "recomputed", "the results differ from those of the network");
}

// However deep a flow is, its networks keep no more than kMostKept, and what each coupling needs besides is little.
void bounded_memory() {
  constexpr Index kCouplings = 60;
  const std::vector<Index> shape = {1, 16, 16};
  Json layers = Json::array();
  for (Index i = 0; i < kCouplings; ++i)
    layers.push_back(image_coupling(kAffine, conv_net(64, 3, "zero", "relu"), shape, &even_pixels));
  const Flow<float> flow(
      Json{{"dim", 256}, {"context", 0}, {"base", {{"kind", "Normal"}}}, {"shape", shape}, {"layers", layers}});
  const Index each = 256 * kTileRows * static_cast<Index>(sizeof(float));  // an image
  const Index kept = flow.stack().all_caches() * kTileRows * static_cast<Index>(sizeof(float));
  expect(kept > kMostKept / 2 && kept < kMostKept + kCouplings * 3 * each, "memory",
         "the networks keep more, or nothing");
}

// Several threads of the caller on one flow: they share the parameters and nothing else.
template <class Scalar>
void called_at_once(const Trial<Scalar>& trial) {
  const auto x = trial.forward(1);
  const auto density = trial.log_prob(x.values, 1);
  const auto loss = trial.loss_and_grad(x.values, 1);
  constexpr std::size_t kCallers = 4;
  bool equal[kCallers] = {};
  std::vector<std::thread> callers;
  for (std::size_t i = 0; i < kCallers; ++i)
    callers.emplace_back([&, i] {
      const auto again = trial.loss_and_grad(x.values, 2);
      equal[i] = same_bits(x.values, trial.forward(2).values) && same_bits(density, trial.log_prob(x.values, 2)) &&
                 loss.first == again.first && same_bits(loss.second, again.second);
    });
  for (auto& caller : callers) caller.join();
  for (const bool same : equal) expect(same, trial.where, "calls at once disturb each other");
}

// More callers than the pool takes at a time, each asking for another number of threads, again and again, with and
// without pauses in which helpers fall asleep: every item is done once, and no two threads have one number.
void threads_share_items() {
  constexpr int kCallers = 24, kRounds = 200, kMostThreads = 9;
  std::atomic<int> wrong{0};
  const auto calls = [&](int caller) {
    for (int round = 0; round < kRounds; ++round) {
      const int threads = 1 + (caller + round) % kMostThreads;
      const Index count = (caller * 7 + round) % 40;
      std::vector<int> done(static_cast<std::size_t>(count));
      std::atomic<int> taken[kMostThreads] = {};
      parallel_for(count, threads, [&](Index item, int number) {
        if (number < 0 || number >= threads || taken[number].fetch_add(1) != 0) ++wrong;
        ++done[static_cast<std::size_t>(item)];
        if (item % 16 == 3) std::this_thread::yield();
        taken[number].fetch_sub(1);
      });
      for (const int times : done) wrong += times != 1;
      if (round % 32 == caller % 32) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  };
  std::vector<std::thread> callers;
  for (int caller = 0; caller < kCallers; ++caller) callers.emplace_back(calls, caller);
  for (auto& caller : callers) caller.join();
  expect(wrong == 0, "threads", "an item was not done once, or two threads had one number");

  // Helpers come when a call asks for them, from their sleep too.
  for (const int threads : {2, kMostThreads, 2, 3, kMostThreads}) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    std::atomic<int> here{0};
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    parallel_for(threads, threads, [&](Index, int) {
      ++here;
      // until each thread has an item
      while (here < threads && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
    });
    expect(std::chrono::steady_clock::now() < deadline, "threads", "a helper did not come");
  }
}

// What a body throws reaches the caller, wherever it is thrown, and the threads work on.
void exceptions() {
  for (const int threads : {1, 2, 3, 9})
    for (Index thrown = 0; thrown < 40; ++thrown) {
      std::atomic<int> done{0};
      std::string caught;
      try {
        parallel_for(40, threads, [&](Index item, int) {
          if (item >= thrown) throw std::runtime_error("item");
          ++done;
        });
      } catch (const std::runtime_error& error) {
        caught = error.what();
      }
      expect(caught == "item" && done <= thrown, "threads", "an exception did not reach the caller");
      done = 0;
      parallel_for(40, threads, [&](Index, int) { ++done; });
      expect(done == 40, "threads", "an exception left something behind");
    }
}

// Ends the calls of its thread, at the look of that number.
class Limit final : public Watch {
 public:
  explicit Limit(int looks) : looks_(looks) {}
  int left() const { return looks_; }

 private:
  void look() override {
    if (--looks_ == 0) throw std::runtime_error("enough");
  }
  int looks_;
};

// Makes a call at each look, in the middle of another.
class Caller final : public Watch {
 public:
  explicit Caller(std::function<void()> call) : call_(std::move(call)) {}

 private:
  void look() override {
    const ArenaAside aside;
    call_();
  }
  std::function<void()> call_;
};

// A watch sees the calls of its own thread, in whatever kind of loop, ends them with its exception, and leaves nothing
// behind. Calls that it makes itself leave the call that it watches alone, and are not watched.
void watches() {
  const Trial<float> trial(kCases[8], 3, 1, 5000), other(kCases[5], 2, 0, 300);
  const auto x = trial.forward(1), other_x = other.forward(1);
  const auto density = trial.log_prob(x.values, 1);
  const auto loss = trial.loss_and_grad(x.values, 1), other_loss = other.loss_and_grad(other_x.values, 1);
  for (const int threads : {1, 3}) {
    const std::function<void()> calls[] = {[&] { (void)trial.log_prob(x.values, threads); },
                                           [&] { (void)trial.forward(threads); },
                                           [&] { (void)trial.loss_and_grad(x.values, threads); }};
    for (const auto& call : calls)
      for (const int looks : {1, 2, 5}) {
        std::string caught;
        {
          const Limit limit(looks);
          try {
            // Where helpers do all the work of a call, the next one has a look.
            for (int turn = 0; turn < 100; ++turn) call();
          } catch (const std::runtime_error& error) {
            caught = error.what();
          }
        }
        expect(caught == "enough", "watch", "a call went on");
        call();
      }
    {
      const Limit limit(3);
      std::thread([&] { (void)trial.log_prob(x.values, threads); }).join();
      expect(limit.left() == 3, "watch", "a call of another thread is watched");
    }
    bool same = true;
    {
      const Caller caller([&] {
        const auto again = other.loss_and_grad(other_x.values, threads);
        same &= again.first == other_loss.first && same_bits(again.second, other_loss.second);
      });
      const auto again = trial.loss_and_grad(x.values, threads);
      same &= again.first == loss.first && same_bits(again.second, loss.second);
      same &= same_bits(density, trial.log_prob(x.values, threads));
    }
    expect(same, "watch", "a call within another disturbs it");
  }
}

template <class Scalar>
void run(const Case& tried, Index dim, Index context) {
  for (const Index rows : {0, 1, 65}) {
    Trial<Scalar> trial(tried, dim, context, rows);
    round_trip(trial);
    bits(trial);
    bad_rows(trial);
    if constexpr (std::is_same_v<Scalar, double>) {
      adjoint(trial, Direction::forward);
      adjoint(trial, Direction::inverse);
      loss_gradient(trial);
    }
  }
  // More tiles than gradient slots, the last one short.
  const Trial<Scalar> trial(tried, dim, context, (kLeastGradientSlots + 1) * kTileRows + 5);
  bits(trial);
  called_at_once(trial);
}

// The slots of a gradient grow with the rows, up to what memory allows, and cover every tile once.
void slots() {
  constexpr Index kSmall = 1000;
  static_assert(gradient_slots(1, kSmall) == 8 && gradient_slots(63, kSmall) == 8);
  static_assert(gradient_slots(64, kSmall) == 16 && gradient_slots(128, kSmall) == 32);
  static_assert(gradient_slots(256, kSmall) == 64 && gradient_slots(1 << 20, kSmall) == 512);
  static_assert(gradient_slots(1 << 20, kMostSlotBytes / 16) == 16 && gradient_slots(1 << 20, kMostSlotBytes) == 8);
  for (const Index tiles : {0, 1, 2, 7, 8, 9, 63, 64, 65, 200, 300})
    for (const int threads : {1, 2, 3, 8, 64})
      for (const Index parts : {1, 2, 3, 5, 8}) {
        std::vector<int> taken(static_cast<std::size_t>(tiles));
        const Index slots = SlotPlan::slots(tiles, kSmall);
        for (Index part = 0; part < parts; ++part) {
          const SlotPlan plan(tiles, kSmall, threads, part * slots / parts, (part + 1) * slots / parts);
          for (Index item = 0; item < plan.items(); ++item) {
            const SlotNode node = plan.item(item);
            const Index end = plan.first_tile(node.first + node.level + 1);
            for (Index tile = plan.first_tile(node.first); tile < end; ++tile) ++taken[static_cast<std::size_t>(tile)];
          }
        }
        expect(std::all_of(taken.begin(), taken.end(), [](int times) { return times == 1; }), "slots",
               "a tile is not added once");
      }
  // Parts of a tree add up to the whole, to the last bit.
  const auto add = [](const std::vector<SlotNode>& nodes, const float* terms, float* sum) {
    add_nodes(
        static_cast<Index>(nodes.size()), 1, [&](Index i) { return nodes[static_cast<std::size_t>(i)]; },
        [&](Index i) { return terms + i; }, sum);
  };
  for (const Index slots : {1, 3, 7, 8, 64})
    for (const Index parts : {1, 2, 3, 4, 8}) {
      const Index tiles = slots <= kLeastGradientSlots ? slots : kTilesOfASlot * slots;
      std::vector<float> terms, partial;
      std::vector<SlotNode> leaves, nodes;
      for (Index slot = 0; slot < slots; ++slot) {
        terms.push_back(1.0f / static_cast<float>(3 + slot * slot));
        leaves.push_back({slot, 0});
      }
      for (Index part = 0; part < parts; ++part) {
        const SlotPlan plan(tiles, kSmall, 1, part * slots / parts, (part + 1) * slots / parts);
        for (Index slot = plan.first_slot(); slot < plan.last_slot(); slot = plan.end(nodes.back())) {
          nodes.push_back(plan.node_at(slot));
          partial.push_back(0);
          add({leaves.begin() + slot, leaves.begin() + plan.end(nodes.back())}, terms.data() + slot, &partial.back());
        }
      }
      float whole, sum;
      add(leaves, terms.data(), &whole);
      add(nodes, partial.data(), &sum);
      expect(whole == sum, "slots", "parts of the tree do not add up to it");
    }
  // Sixteen slots, of which the last has fewer tiles.
  bits(Trial<float>(kCases[2], 2, 1, 67 * kTileRows + 3));
}

// A row of weight 0 is not there, whatever it holds.
void weights(const Case& tried, double outside) {
  Trial<double> trial(tried, 2, 1, 70);
  auto x = trial.forward(1).values;
  Values<double> w(trial.count(), 1.0), gradient[2];
  w[3] = w[68] = 0;
  double loss[2];
  for (int i = 0; i < 2; ++i) {
    gradient[i].resize(static_cast<std::size_t>(trial.flow.parameter_count()));
    const Table rows = table(x, trial.dim), conditions = table(trial.condition, trial.context);
    Seeds seeds;
    seeds.weights = w.data();
    seeds.normalizer = -68;
    Gradients<double> gradients;
    gradients.parameters = gradient[i].data();
    loss[i] = engine::vjp(trial.flow.stack(), Direction::inverse, rows, &conditions, seeds, gradients, 1);
    x[6] = outside;
    x[137] = std::numeric_limits<double>::quiet_NaN();
    trial.condition[3] = 1e300;
  }
  expect(std::isfinite(loss[0]) && loss[0] == loss[1] && same_bits(gradient[0], gradient[1]), "weights",
         "a row of weight 0 counts");
}

// A program may add parts of its own, under names that are free.
void own_part() {
  transforms<double>().add("Shift", [](const Json&) { return transforms<double>().at("Additive")(kAdditive); });
  const Json shift = {{"kind", "Shift"}};
  const auto flow_of = [](const Json& transform) {
    return Flow<double>({{"dim", 2},
                         {"context", 0},
                         {"base", {{"kind", "Normal"}}},
                         {"layers", Json::array({coupling(transform, {3}, "tanh", 2, 0)})}});
  };
  auto ours = flow_of(shift), known = flow_of(kAdditive);
  std::fill_n(ours.parameters(), ours.parameter_count(), 0.3);
  std::fill_n(known.parameters(), known.parameter_count(), 0.3);
  const Values<double> x{0.1, 0.2};
  double density[2];
  ours.log_prob(x.data(), 1, density);
  known.log_prob(x.data(), 1, density + 1);
  expect(density[0] == density[1], "registry", "a part of the program's own is not used");
  bool refused = false;
  try {
    transforms<double>().add("Affine", transforms<double>().at("Additive"));
  } catch (const std::invalid_argument&) {
    refused = true;
  }
  expect(refused, "registry", "a name that is taken is given away");
}

void adam() {
  constexpr Index kCount = 2 * kParameterPiece + 3;
  const auto step = [](int threads) {
    Random random(3);
    auto parameters = random.uniforms<float>(kCount, -1, 1);
    const auto gradient = random.uniforms<float>(kCount, -1, 1);
    Values<float> mean(parameters.size()), square(parameters.size());
    for (Index i = 1; i <= 3; ++i)
      adam_step({0.1, 0.9, 0.999, 1e-8, 0.01, 5.0}, i, kCount, parameters.data(), gradient.data(),
                norm(kCount, gradient.data(), threads), mean.data(), square.data(), {}, threads);
    return parameters;
  };
  expect(same_bits(step(1), step(3)), "Adam", "a step depends on the number of threads");
}

// On the bounds of a support all is finite, beyond them there is no density, and no point is carried there.
template <class Scalar>
void bounds() {
  const std::string where = std::is_same_v<Scalar, float> ? "bounds, float" : "bounds, double";
  const Flow<Scalar> flow(Json{{"dim", 4},
                               {"context", 0},
                               {"base", {{"kind", "Normal"}}},
                               {"support", Json::array({{{"kind", "Positive"}},
                                                        {{"kind", "Interval"}, {"low", -0.1}, {"high", 0.3}},
                                                        {{"kind", "Circle"}, {"low", 0.0}, {"high", 2 * kPi}},
                                                        {{"kind", "Real"}}})},
                               {"layers", Json::array({kActNorm})}});
  const auto& support = flow.support();
  expect(support.size() == 4 && support[0].kind == "Positive" && support[0].low == 0 && support[0].high == INFINITY,
         where, "another support of the first feature");
  expect(support[1].kind == "Interval" && support[1].low == -0.1 && support[1].high == 0.3, where, "other bounds");
  expect(support[2].kind == "Circle" && support[3].kind == "Real" && flow.columns().empty(), where, "other supports");
  const auto turn = static_cast<Scalar>(2 * kPi);
  const Values<Scalar> x{
      0, Scalar(-0.1), 0, 0, 0, Scalar(0.3), turn, 0, Scalar(-1), 0, 1, 0, 1, 1, 1, 0, 1, 0, 7, 0, 1, 0, 1, NAN};
  Values<double> density(6);
  flow.log_prob(x.data(), 6, density.data(), nullptr, 1);
  expect(std::isfinite(density[0]) && std::isfinite(density[1]), where, "no density on a bound");
  for (std::size_t i = 2; i < 5; ++i) expect(density[i] == -INFINITY, where, "a density outside the support");
  expect(std::isnan(density[5]), where, "a bad row has a density");
  Scalar gradient[8];
  expect(flow.loss_and_grad(x.data(), 5, gradient, nullptr, 1) == INFINITY, where, "a loss outside the support");
  expect(std::isfinite(flow.loss_and_grad(x.data(), 2, gradient, nullptr, 1)), where, "no loss on a bound");

  Values<Scalar> z;
  for (const double value : {-1e4, -9.0, -kPi, 0.0, kPi, 9.0, 1e4}) z.insert(z.end(), 4, static_cast<Scalar>(value));
  Values<Scalar> carried(z.size());
  Values<double> log_det(7);
  flow.forward(z.data(), 7, carried.data(), log_det.data(), nullptr, 1);
  for (std::size_t row = 0; row < 7; ++row) {
    const Scalar* at = carried.data() + 4 * row;
    expect(at[0] > 0 && std::isfinite(at[0]) && at[1] >= -0.1 && at[1] <= 0.3 && at[2] >= 0 && at[2] <= 2 * kPi, where,
           "a point outside the support");
    expect(std::isfinite(log_det[row]), where, "a log_det that is not finite");
  }
}

// Under a base with heavy tails, many samples end at a bound: each is scored as log_prob scores the number written.
template <class Scalar>
void heavy_tails() {
  const std::string where = std::is_same_v<Scalar, float> ? "heavy tails, float" : "heavy tails, double";
  Flow<Scalar> flow(Json{
      {"dim", 3},
      {"context", 0},
      {"base", {{"kind", "StudentT"}, {"df", 1.0}, {"learned", false}}},
      {"support",
       Json::array({{{"kind", "Positive"}}, {{"kind", "Interval"}, {"low", -0.1}, {"high", 0.3}}, {{"kind", "Real"}}})},
      {"layers", Json::array({kActNorm})}});
  const double far = std::is_same_v<Scalar, float> ? 1e4 : 1e13;  // whose digits after the point do not fit Scalar
  flow.stack().set_standardization({1.0, 0.2, far}, {2.0, 0.5, 0.5});
  constexpr Index kRows = 1000;
  Values<Scalar> x(3 * kRows), z(3 * kRows);
  Values<double> density(kRows), again(kRows), there(kRows), back(kRows);
  flow.sample({3}, kRows, x.data(), density.data(), nullptr, 1);
  flow.log_prob(x.data(), kRows, again.data(), nullptr, 1);
  for (std::size_t row = 0; row < kRows; ++row)
    expect(std::abs(density[row] - again[row]) <= 1e-3 * (1 + std::abs(again[row])), where, "another density");
  const Draws draws{3};
  for (Index i = 0; i < 3; ++i) {
    alignas(64) Scalar column[kTileRows];
    for (Index first = 0; first + kTileRows <= kRows; first += kTileRows) {
      draw_student_t({draws.key, first}, static_cast<std::uint32_t>(i), kTileRows, 0.5, column);
      for (Index row = 0; row < kTileRows; ++row) z[static_cast<std::size_t>(3 * (first + row) + i)] = column[row];
    }
  }
  flow.forward(z.data(), kRows, x.data(), there.data(), nullptr, 1);
  flow.inverse(x.data(), kRows, z.data(), back.data(), nullptr, 1);
  for (std::size_t row = 0; row < kRows; ++row)
    expect(std::abs(there[row] + back[row]) <= 1e-3 * (1 + std::abs(back[row])), where, "another log_det");
}

// Values on a bound stand in the middle of the column's cell, if there is one.
void cells() {
  const Json interval = {{"kind", "Interval"}, {"low", 1.0}, {"high", 3.0}};
  DataSide side({make_interval(interval, false)});
  constexpr Index kColumn = 0;
  const auto read = [&](const Values<double>& x) {
    alignas(64) double state[kTileRows];
    double log_det[kTileRows];
    bool bad[kTileRows] = {}, outside[kTileRows] = {};
    side.read(table(x, 1), 0, static_cast<Index>(x.size()), &kColumn, Columns<double>(state), log_det, bad, outside, 0);
    return Values<double>(state, state + x.size());
  };
  const double next = std::nextafter(1.0, 2.0) - 1;
  const auto own = read({1, 3});
  expect(std::abs(own[0] - normal_quantile(next / 8, 1)) < 1e-9, "cells", "not the rounding of the type");
  side.set_standardization({0}, {1}, {{0.25, 0.5}});
  const auto wide = read({1, 1.125, 1 + next, 3, 2.75});
  expect(wide[0] == wide[1] && wide[3] == wide[4], "cells", "not in the middle");
  expect(wide[2] < -8, "cells", "a value beside the bound has moved");
  for (const Cells cell : {Cells{-1, 0}, Cells{0, NAN}, Cells{INFINITY, 0}}) {
    bool refused = false;
    try {
      side.set_standardization({0}, {1}, {cell});
    } catch (const std::invalid_argument&) {
      refused = true;
    }
    expect(refused, "cells", "widths that are none are not refused");
  }
}

// An interval under a uniform base: the box [-1, 1], and its ends.
void box() {
  const Json interval = {{"kind", "Interval"}, {"low", -3.0}, {"high", 1.0}};
  const DataSide side({make_interval(interval, true)});
  expect(side.domain(0) == Domain::box, "box", "another domain");
  constexpr Index kRows = 5, kColumn = 0;
  alignas(64) double state[kTileRows] = {-1, -0.5, 0, 1, 1.5}, back[kTileRows];
  const Values<double> want{-3, -2, -1, 1, 1};
  Values<double> x(kRows), seeds(kRows, 1.0), dlog_det(kRows, 2.0);
  double log_det[kTileRows];
  bool bad[kTileRows] = {}, outside[kTileRows] = {};
  side.write(Columns<double>(state), 0, kRows, &kColumn, bad, {x.data(), true}, false);
  expect(same_bits(x, want), "box", "points are carried elsewhere");
  side.read(table(x, 1), 0, kRows, &kColumn, Columns<double>(back), log_det, bad, outside, 0);
  for (Index row = 0; row < 4; ++row) expect(back[row] == state[row], "box", "a point does not come back");
  expect(back[4] == 1 && log_det[0] == -std::log(2.0), "box", "another log_det");
  side.read_grad(table(seeds, 1), dlog_det.data(), true, 0, kRows, &kColumn, Columns<double>(state),
                 Columns<double>(back), bad);
  for (Index row = 0; row < kRows; ++row) expect(back[row] == (row < 4 ? 2 : 0), "box", "another adjoint of forward");
  side.write_grad(Columns<double>(seeds.data()), dlog_det.data(), table(want, 1), 0, kRows, &kColumn, bad,
                  {x.data(), true}, 0);
  for (const double dx : x) expect(dx == 0.5, "box", "another adjoint of inverse");
}

// The file of an ensemble of normals, one for each mean and spread: flows without layers.
std::string normals(const Values<double>& weights, const Values<double>& means, const Values<double>& spreads) {
  std::string data;
  Json header, members = Json::array();
  const auto add = [&](const std::string& name, const double* values, std::size_t count) {
    const std::size_t begin = data.size();
    data.append(reinterpret_cast<const char*>(values), count * sizeof(double));
    header[name] = {{"dtype", "F64"}, {"shape", {count}}, {"data_offsets", {begin, data.size()}}};
  };
  add("weights", weights.data(), weights.size());
  for (std::size_t m = 0; m < means.size(); ++m) {
    members.push_back({{"model",
                        {{"dim", 1},
                         {"context", 0},
                         {"dtype", "float64"},
                         {"base", {{"kind", "Normal"}}},
                         {"layers", Json::array()}}},
                       {"data_dtype", "float64"},
                       {"initialized", true},
                       {"columns", {"height"}},
                       {"context_columns", nullptr},
                       {"training", nullptr}});
    const std::string prefix = "members." + std::to_string(m) + ".standardization.";
    add(prefix + "shift", &means[m], 1);
    add(prefix + "scale", &spreads[m], 1);
  }
  const Json content = {{"format", 2}, {"version", "0.1.0"}, {"members", members}};
  header["__metadata__"] = {{"pushforward", content.dump()}};
  const std::string text = header.dump();
  const std::uint64_t length = text.size();
  std::string bytes(sizeof(length), '\0');
  std::memcpy(bytes.data(), &length, sizeof(length));
  return bytes + text + data;
}

template <class Scalar>
void ensembles() {
  const std::string where = std::is_same_v<Scalar, float> ? "ensemble, float" : "ensemble, double";
  const Values<double> weights{0.25, 0.0, 0.75}, means{-3, 100, 2}, spreads{1, 1, 0.5};
  const auto ensemble = Ensemble<Scalar>::parse(normals(weights, means, spreads));
  expect(ensemble.size() == 3 && ensemble.dim() == 1 && ensemble.context() == 0 && ensemble.weights() == weights, where,
         "other sizes or weights");

  // The density is the weighted sum, in any row, also where one normal is 0 to the last digit.
  constexpr std::size_t kRows = 6;
  const Values<Scalar> x{-3, 0, Scalar(0.3), 2, 60, Scalar(NAN)};
  Values<double> density(kRows);
  ensemble.log_prob(x.data(), kRows, density.data(), nullptr, 2);
  for (std::size_t row = 0; row + 1 < kRows; ++row) {
    double parts[3];
    for (std::size_t m = 0; m < 3; ++m) {
      const double z = (static_cast<double>(x[row]) - means[m]) / spreads[m];
      parts[m] = std::log(weights[m]) - 0.5 * z * z - std::log(spreads[m]) - 0.5 * std::log(2 * kPi);
    }
    const double high = std::max(parts[0], parts[2]),
                 want = high + std::log(std::exp(parts[0] - high) + std::exp(parts[2] - high));
    expect(std::abs(density[row] - want) < (std::is_same_v<Scalar, float> ? 1e-5 : 1e-13) * std::abs(want), where,
           "another density");
  }
  expect(std::isnan(density[5]), where, "a bad row has a density");

  // A sample row depends on the key and its number: not on the threads, nor on where the call begins.
  constexpr Index kCount = 70'000, kFirst = 65'540;  // counting the rows before takes two pieces
  Values<Scalar> all(kCount), part(kCount - kFirst), threads(kCount);
  ensemble.sample({5}, kCount, all.data(), nullptr, nullptr, 1);
  ensemble.sample({5}, kCount, threads.data(), nullptr, nullptr, 3);
  ensemble.sample({5, kFirst}, kCount - kFirst, part.data(), nullptr, nullptr, 1);
  expect(same_bits(all, threads), where, "samples depend on the number of threads");
  expect(same_bits(Values<Scalar>(all.begin() + kFirst, all.end()), part), where, "samples depend on where they begin");
  double below = 0, sum = 0;
  for (const Scalar value : all) below += value < 0 ? 1 : 0, sum += static_cast<double>(value);
  expect(std::abs(below / kCount - 0.25) < 0.01, where, "another share of samples");
  expect(std::abs(sum / kCount - (0.25 * -3 + 0.75 * 2)) < 0.05, where, "another mean of samples");
  for (std::size_t i = 1; i < all.size(); ++i) expect(all[i] != all[i - 1], where, "two equal samples");

  // The derivative is that of the members, by their shares.
  Values<Scalar> gradient(kRows);
  Values<double> with_gradient(kRows);
  ensemble.log_prob_and_grad(x, with_gradient, gradient);
  for (std::size_t row = 0; row + 1 < kRows; ++row) {
    const auto at = static_cast<double>(x[row]);
    const double odds = std::log(0.25) - 0.5 * (at + 3) * (at + 3) -
                        (std::log(0.75 / 0.5) - 0.5 * (at - 2) * (at - 2) / 0.25),
                 share = 1 / (1 + std::exp(-odds)), want = share * -(at + 3) + (1 - share) * -(at - 2) / 0.25;
    expect(std::abs(static_cast<double>(gradient[row]) - want) < 1e-4 * (1 + std::abs(want)), where,
           "another gradient");
    expect(with_gradient[row] == density[row], where, "another density beside the gradient");
  }
  expect(std::isnan(gradient[5]), where, "a bad row has a gradient");
  expect(ensemble.columns() == std::vector<std::string>{"height"} && ensemble.context_columns().empty(), where,
         "other columns");
  expect(ensemble.support().size() == 1 && ensemble.support()[0].kind == "Real" &&
             ensemble.support()[0].low == -INFINITY && ensemble.support()[0].high == INFINITY,
         where, "another support");

  ensemble.sample({5}, 4, all.data(), density.data(), nullptr, 1);
  Values<double> again(4);
  ensemble.log_prob(all.data(), 4, again.data(), nullptr, 1);
  expect(std::equal(again.begin(), again.end(), density.begin()), where, "samples have other densities");

  const auto refused = [](const std::string& bytes) {
    try {
      (void)Ensemble<Scalar>::parse(bytes);
    } catch (const FileFormatError&) {
      return true;
    }
    return false;
  };
  expect(refused(normals({0.5, 0.6}, {0, 0}, {1, 1})), where, "weights above 1 are not refused");
  expect(refused(normals({1.5, -0.5}, {0, 0}, {1, 1})), where, "a negative weight is not refused");
  expect(refused(normals({}, {}, {})), where, "no members are not refused");
  const auto wrong = [](auto&& call) {
    try {
      call();
    } catch (const std::invalid_argument&) {
      return true;
    }
    return false;
  };
  expect(wrong([&] { ensemble.sample({5, -1}, 1, all.data()); }), where, "a row before the first is not refused");
  expect(wrong([&] { ensemble.sample({5}, -1, all.data()); }), where, "rows -1 are not refused");
  expect(wrong([&] { ensemble.sample({5}, 1, all.data(), nullptr, x.data()); }), where, "a context too many is not");
  expect(wrong([&] { ensemble.log_prob(x.data(), -1, density.data()); }), where, "rows -1 are not refused");
}

// Whether the thread that asks keeps subnormal numbers.
bool keeps_subnormals() {
  volatile float least = std::numeric_limits<float>::min();
  volatile float half = least / 2;
  return half > 0;
}

// A call computes without subnormal numbers, does so in any mode of the caller and on any number of threads, and leaves
// the mode as it was.
template <class Scalar>
void subnormals() {
  const std::string where = std::is_same_v<Scalar, float> ? "subnormals, float" : "subnormals, double";
  constexpr Scalar kLeast = std::numeric_limits<Scalar>::min();
  constexpr Index kRows = 5 * kTileRows + 3;
  const auto is_subnormal = [](Scalar value) { return std::fpclassify(value) == FP_SUBNORMAL; };

  // Parameters that are subnormal, and make gradients that are.
  Trial<Scalar> trial(kCases[8], 3, 1, kRows);
  std::fill_n(trial.flow.parameters(), trial.flow.parameter_count(), kLeast / 100);
  const auto x = trial.forward(1);
  const auto density = trial.log_prob(x.values, 1);
  const auto loss = trial.loss_and_grad(x.values, 1);
  expect(std::none_of(loss.second.begin(), loss.second.end(), is_subnormal), where, "a gradient holds some");

  for (const Subnormals mode : {Subnormals::kept, Subnormals::zero})
    for (const int threads : {1, 3}) {
      bool same = false, left = false;
      {
        const SubnormalMode caller(mode);
        const auto again = trial.loss_and_grad(x.values, threads);
        same = same_bits(density, trial.log_prob(x.values, threads)) && again.first == loss.first &&
               same_bits(again.second, loss.second) && same_bits(x.values, trial.forward(threads).values);
        left = keeps_subnormals() == (mode == Subnormals::kept);
      }
      expect(same, where, "results depend on the mode of the caller");
      expect(left && keeps_subnormals(), where, "a call changes the mode of its caller");
    }

  // Every thread of a loop keeps them, also one that was started by a thread that does not.
  for (const int threads : {1, 2, 12}) {
    const SubnormalMode caller(Subnormals::zero);
    std::atomic<int> kept{0};
    parallel_for(200, threads, [&](Index, int) { kept += keeps_subnormals(); });
    expect(kept == 200, where, "a thread works in another mode");
    try {
      parallel_for(200, threads, [&](Index item, int) {
        const SubnormalMode mode(Subnormals::kept);
        if (item == 3) throw std::runtime_error("item");
      });
    } catch (const std::runtime_error&) {
    }
    expect(!keeps_subnormals(), where, "an exception changes the mode of the caller");
  }
}

// Whether a call throws std::invalid_argument.
template <class Call>
bool refused(Call&& call) {
  try {
    call();
  } catch (const std::invalid_argument&) {
    return true;
  }
  return false;
}

void wrong_calls() {
  const Trial<float> without(kCases[1], 2, 0, 1), with(kCases[1], 2, 1, 1);
  float x[2] = {};
  double density;
  expect(refused([&] { without.flow.log_prob(x, -1, &density); }), "rows -1", "not refused");
  expect(refused([&] { without.flow.log_prob(x, 1, &density, nullptr, 0); }), "threads 0", "not refused");
  expect(refused([&] { without.flow.log_prob(x, 1, &density, x); }), "a context too many", "not refused");
  expect(refused([&] { with.flow.log_prob(x, 1, &density); }), "no context", "not refused");
  float gradient[64];
  expect(refused([&] { without.flow.loss_and_grad(x, 0, gradient); }), "a mean of no rows", "not refused");

  // Null pointers, where there are rows to read or to write.
  const float* none = nullptr;
  expect(refused([&] { without.flow.log_prob(none, 5, &density); }), "log_prob of null", "not refused");
  expect(refused([&] { without.flow.log_prob(x, 1, nullptr); }), "log_prob to null", "not refused");
  expect(refused([&] { without.flow.log_prob_and_grad(x, 1, &density, nullptr); }), "gradient to null", "not refused");
  expect(refused([&] { without.flow.inverse(none, 1, x, &density); }), "inverse of null", "not refused");
  expect(refused([&] { without.flow.inverse(x, 1, nullptr, &density); }), "inverse to null", "not refused");
  expect(refused([&] { without.flow.forward(none, 1, x, &density); }), "forward of null", "not refused");
  expect(refused([&] { without.flow.sample({1}, 1, nullptr); }), "sample to null", "not refused");
  expect(refused([&] { without.flow.loss_and_grad(none, 1, gradient); }), "loss_and_grad of null", "not refused");
  expect(refused([&] { without.flow.loss_and_grad(x, 1, nullptr); }), "loss_and_grad to null", "not refused");
  expect(refused([&] { Span<const float>(none, 1); }), "a view of null", "not refused");
  without.flow.log_prob(none, 0, nullptr);
  without.flow.inverse(x, 1, x, nullptr);  // in place, without its log_det

  // Lengths that do not fit.
  const Values<float> points(6), conditions(3);
  Values<double> densities(3);
  Values<float> slopes(6);
  without.flow.log_prob(points, densities);
  expect(refused([&] { without.flow.log_prob(Values<float>(5), densities); }), "half a row", "not refused");
  expect(refused([&] { without.flow.log_prob(Values<float>(8), densities); }), "fewer densities", "not refused");
  expect(refused([&] { without.flow.log_prob_and_grad(points, densities, Values<float>(5)); }), "a gradient too short",
         "not refused");
  expect(refused([&] { without.flow.forward(points, Values<float>(4), densities); }), "fewer points", "not refused");
  expect(refused([&] { without.flow.inverse(points, slopes, Values<double>(4)); }), "more log_dets", "not refused");
  expect(refused([&] { without.flow.sample({1}, slopes, Values<double>(2)); }), "fewer densities of samples",
         "not refused");
  expect(refused([&] { without.flow.sample({1, -1}, slopes); }), "a row before the first", "not refused");
  expect(refused([&] { without.flow.loss_and_grad(points, Values<float>(1)); }), "another gradient", "not refused");
  expect(refused([&] { with.flow.log_prob(points, densities, Values<float>(2)); }), "a context too short",
         "not refused");
  expect(refused([&] { with.flow.log_prob(x, std::numeric_limits<Index>::max(), &density, x); }), "rows beyond memory",
         "not refused");

  // What is written over before it is read.
  Values<float> memory(12);
  const auto part = [&](std::size_t first, std::size_t count) { return Span<float>(memory.data() + first, count); };
  expect(refused([&] { without.flow.inverse(part(0, 8), part(2, 8), {}); }), "results over the rows", "not refused");
  expect(refused([&] { with.flow.inverse(part(0, 4), part(4, 4), {}, part(6, 2)); }), "results over the context",
         "not refused");
  Values<double> both(12);
  const Trial<double> wide(kCases[1], 2, 0, 1);
  expect(refused([&] { wide.flow.inverse({both.data(), 4}, {both.data(), 4}, {both.data() + 3, 2}); }),
         "log_dets over the points", "not refused");
  without.flow.inverse(part(0, 8), part(0, 8), {});
}

// Views of vectors give what pointers give; one row of the context stands for all; densities and their derivatives.
template <class Scalar>
void views() {
  const std::string where = std::is_same_v<Scalar, float> ? "views, float" : "views, double";
  const Trial<Scalar> trial(kCases[8], 3, 2, 70);
  const auto x = trial.forward(1).values;
  const Values<Scalar> one(trial.condition.begin(), trial.condition.begin() + 2);
  Values<Scalar> all;
  for (int row = 0; row < 70; ++row) all.insert(all.end(), one.begin(), one.end());
  Values<double> density(70), again(70);
  trial.flow.log_prob(x, density, all, 2);
  trial.flow.log_prob(x, again, one, 2);
  expect(same_bits(density, again), where, "one context is not that of all rows");
  trial.flow.log_prob(x.data(), 70, again.data(), all.data());
  expect(same_bits(density, again), where, "pointers have other densities");

  Values<Scalar> gradient(x.size()), moved = x;
  trial.flow.log_prob_and_grad(x, again, gradient, all);
  expect(same_bits(density, again), where, "log_prob_and_grad has other densities");
  const Scalar step = std::is_same_v<Scalar, float> ? Scalar(1e-2) : Scalar(1e-5);
  bool near = true;
  for (std::size_t i = 0; i < 3; ++i) {
    Values<double> ends[2] = {Values<double>(70), Values<double>(70)};
    for (int side = 0; side < 2; ++side) {
      for (std::size_t row = 0; row < 70; ++row) moved[3 * row + i] = x[3 * row + i] + (side == 0 ? -step : step);
      trial.flow.log_prob(moved, ends[side], all);
    }
    for (std::size_t row = 0; row < 70; ++row) {
      moved[3 * row + i] = x[3 * row + i];
      const double slope = (ends[1][row] - ends[0][row]) / (2 * static_cast<double>(step));
      near &= std::abs(slope - static_cast<double>(gradient[3 * row + i])) < 1e-2 * (1 + std::abs(slope));
    }
  }
  expect(near, where, "the gradient of log_prob is not its derivative");

  Values<Scalar> drawn(x.size()), place = x, z(x.size());
  Values<double> log_det(70), log_det_in_place(70);
  trial.flow.sample({3}, drawn, density, one);
  trial.flow.log_prob(drawn, again, one);
  for (std::size_t row = 0; row < 70; ++row)
    expect(std::abs(density[row] - again[row]) < 1e-3, where, "samples have other densities");
  trial.flow.inverse(x, z, log_det, one);
  trial.flow.inverse(place, place, log_det_in_place, one);
  expect(same_bits(z, place) && same_bits(log_det, log_det_in_place), where, "rows in their place are others");
}

// The derivatives of a scalar of the log densities are those of the loss and of the density, and what is not wanted
// changes nothing.
template <class Scalar>
void density_vjp() {
  const std::string where = std::is_same_v<Scalar, float> ? "log_prob_vjp, float" : "log_prob_vjp, double";
  const Trial<Scalar> trial(kCases[8], 3, 2, 70);
  auto x = trial.forward(1).values;
  const auto size = static_cast<std::size_t>(trial.flow.parameter_count());
  Values<double> density(70), ones(70, 1.0), shares(70, -1.0 / 70);
  Values<Scalar> gradient(x.size()), dx(x.size()), dcontext(140), again(x.size()), dparameters(size), dloss(size);
  trial.flow.log_prob_and_grad(x, density, gradient, trial.condition);
  trial.flow.log_prob_vjp(x, ones, dx, {}, {}, trial.condition);
  expect(same_bits(dx, gradient), where, "another gradient than that of log_prob_and_grad");
  trial.flow.loss_and_grad(x, dloss, trial.condition);
  trial.flow.log_prob_vjp(x, shares, dx, dparameters, dcontext, trial.condition);
  bool near = true;
  for (std::size_t i = 0; i < size; ++i) near &= std::abs(dloss[i] - dparameters[i]) < 1e-5 * (1 + std::abs(dloss[i]));
  expect(near, where, "another gradient than that of the loss");
  Values<Scalar> alone(size), context_alone(140);
  trial.flow.log_prob_vjp(x, shares, {}, alone, {}, trial.condition);
  trial.flow.log_prob_vjp(x, shares, {}, {}, context_alone, trial.condition);
  trial.flow.log_prob_vjp(x, shares, again, {}, {}, trial.condition);
  expect(same_bits(again, dx) && same_bits(alone, dparameters) && same_bits(context_alone, dcontext), where,
         "one derivative depends on whether others are wanted");
  expect(refused([&] { trial.flow.log_prob_vjp(x, Values<double>(69), dx, {}, {}, trial.condition); }), where,
         "fewer derivatives than rows are not refused");
  expect(refused([&] { trial.flow.log_prob_vjp(x, shares, x, {}, {}, trial.condition); }), where,
         "a derivative over the rows is not refused");
  expect(refused([&] { trial.flow.log_prob_vjp(x, shares, dx, Values<Scalar>(size + 1), {}, trial.condition); }), where,
         "more derivatives than parameters are not refused");
  expect(refused([&] { trial.flow.forward_vjp(x, Values<Scalar>(3), ones, dx, {}, {}, trial.condition); }), where,
         "fewer derivatives than points are not refused");
}

}  // namespace

// `core_test few` tries flows of three features alone, for a processor that is emulated.
int main(int count, char** words) {
  const bool few = count > 1 && std::string(words[1]) == "few";
  for (const auto& tried : kCases)
    for (const Index dim : {1, 2, 3, 8})
      for (const Index context : {0, 3}) {
        if (few && dim != 3) continue;
        run<float>(tried, dim, context);
        run<double>(tried, dim, context);
      }
  for (const auto& tried : kImages)
    for (const Index context : {0, 3}) {
      if (tried.reads_no_context && context > 0) continue;
      const Index dim = tried.shape[0] * tried.shape[1] * tried.shape[2];
      run<float>(tried, dim, context);
      run<double>(tried, dim, context);
    }
  recomputed<float>();
  recomputed<double>();
  bounded_memory();
  bounds<float>();
  bounds<double>();
  heavy_tails<float>();
  heavy_tails<double>();
  cells();
  box();
  ensembles<float>();
  ensembles<double>();
  slots();
  weights(kCases[14], -1);  // the first feature is positive
  weights(kCases[15], 1e300);
  own_part();
  adam();
  threads_share_items();
  exceptions();
  watches();
  subnormals<float>();
  subnormals<double>();
  wrong_calls();
  views<float>();
  views<double>();
  density_vjp<float>();
  density_vjp<double>();
  return report();
}
