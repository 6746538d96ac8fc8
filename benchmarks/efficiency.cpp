// How close the core is to the machine, on one thread: the arithmetic rate of training steps, counting the dense
// layers' multiply-adds alone, beside that of Eigen's matrix product of the same inner sizes; and what a value of a
// spline costs.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <random>
#include <vector>

#include "pushforward/adam.hpp"
#include "pushforward/flow.hpp"

namespace {

using pushforward::Index;
using pushforward::Json;

std::mt19937 generator(1);

template <class Scalar>
std::vector<Scalar> normals(Index count) {
  std::vector<Scalar> values(static_cast<std::size_t>(count));
  std::normal_distribution<Scalar> normal;
  for (auto& value : values) value = normal(generator);
  return values;
}

template <class Call>
double median_seconds(Call&& call) {
  using Clock = std::chrono::steady_clock;
  std::vector<double> times;
  call();
  for (const auto end = Clock::now() + std::chrono::milliseconds(600); times.size() < 7 || Clock::now() < end;) {
    const auto start = Clock::now();
    call();
    times.push_back(std::chrono::duration<double>(Clock::now() - start).count());
  }
  std::nth_element(times.begin(), times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2), times.end());
  return times[times.size() / 2];
}

// GFLOP/s of (rows, size) by (size, size).
template <class Scalar>
double eigen_rate(Index rows, Index size) {
  using Matrix = Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic>;
  const Matrix left = Matrix::Random(rows, size), right = Matrix::Random(size, size);
  Matrix result(rows, size);
  const double seconds = median_seconds([&] {
    for (int i = 0; i < 20; ++i) result.noalias() = left * right;
  });
  return 20 * 2e-9 * static_cast<double>(rows * size * size) / seconds;
}

struct Case {
  const char* name;
  Index dim, layers, hidden, bins, rows;  // bins 0: affine
};

Json description(const Case& c) {
  const Json transform =
      c.bins > 0 ? Json{{"kind", "RationalQuadratic"}, {"bins", c.bins},    {"bound", 5.0},     {"min_width", 1e-3},
                        {"min_height", 1e-3},          {"min_slope", 1e-3}, {"scheme", "floor"}}
                 : Json{{"kind", "Affine"}, {"max_log_scale", 3.0}};
  Json layers = Json::array();
  for (Index layer = 0; layer < c.layers; ++layer) {
    Json kept = Json::array();
    for (Index feature = 0; feature < c.dim; ++feature) kept.push_back(feature % 2 == layer % 2);
    layers.push_back({{"kind", "Coupling"},
                      {"transform", transform},
                      {"conditioner", {{"kind", "MLP"}, {"hidden", {c.hidden, c.hidden}}, {"activation", "relu"}}},
                      {"mask", "custom"},
                      {"kept", kept}});
  }
  return {{"dim", c.dim}, {"context", 0}, {"base", {{"kind", "Normal"}}}, {"layers", layers}};
}

// Multiply-adds of the dense layers for one row, one way.
double multiply_adds(const pushforward::Flow<float>& flow) {
  double sum = 0;
  for (const auto& block : flow.parameter_blocks())
    if (block.shape.size() == 2) sum += static_cast<double>(block.shape[0] * block.shape[1]);
  return sum;
}

template <class Scalar>
double step_seconds(const Case& c) {
  pushforward::Flow<Scalar> flow(description(c));
  const Index count = flow.parameter_count();
  const auto noise = normals<Scalar>(count);
  for (Index i = 0; i < count; ++i) flow.parameters()[i] = Scalar(0.02) * noise[static_cast<std::size_t>(i)];
  const auto x = normals<Scalar>(c.rows * c.dim);
  std::vector<Scalar> gradient(noise.size()), mean(noise.size()), square(noise.size());
  Index step = 0;
  return median_seconds([&] {
    flow.loss_and_grad(x.data(), c.rows, gradient.data(), nullptr, 1);
    const double length = pushforward::norm(count, gradient.data(), 1);
    pushforward::adam_step<Scalar>({1e-6, 0.9, 0.999, 1e-8, 0.0, 5.0}, ++step, count, flow.parameters(),
                                   gradient.data(), length, mean.data(), square.data(), {}, 1);
  });
}

// Nanoseconds of one value forwards and back through a spline of `bins` bins.
template <class Scalar, int kBins>
double spline_nanoseconds() {
  using namespace pushforward;
  const RationalQuadratic<Scalar, kBins> spline({kBins, 5.0, 1e-3, 1e-3, 1e-3, SplineScheme::floor});
  const Index count = spline.parameter_count(Domain::line);
  std::vector<Lanes<Scalar>> memory(
      static_cast<std::size_t>((2 * count + spline.saved_columns(Domain::line) + 4) * kTileRows / kLanes));
  std::vector<Lanes<double>> log_det(kTileRows / kLanes);
  Scalar* theta = memory[0].data();
  Scalar *saved = theta + count * kTileRows, *dtheta = saved + spline.saved_columns(Domain::line) * kTileRows;
  Scalar *state = dtheta + count * kTileRows, *dlog_det = state + kTileRows, *dstate = dlog_det + kTileRows;
  const auto parameters = normals<Scalar>(count * kTileRows), x = normals<Scalar>(3 * kTileRows);
  constexpr int kTimes = 200;
  const auto run = [&](bool with_spline) {
    return median_seconds([&] {
      for (int i = 0; i < kTimes; ++i) {
        std::copy(parameters.begin(), parameters.end(), theta);
        std::copy(x.begin(), x.end(), state);
        if (!with_spline) continue;
        spline.map(Direction::inverse, Domain::line, kTileRows, {theta, saved}, state, log_det[0].data());
        spline.vjp(Direction::inverse, Domain::line, kTileRows, {theta, saved}, dlog_det, dstate, dtheta);
      }
    });
  };
  return 1e9 * (run(true) - run(false)) / (kTimes * kTileRows);
}

}  // namespace

int main() {
  const Case cases[] = {{"A", 8, 8, 64, 0, 256},
                        {"B", 8, 5, 64, 8, 256},
                        {"C", 6, 10, 256, 8, 512},
                        {"D", 43, 10, 32, 4, 128},
                        {"E", 43, 10, 128, 0, 1024}};
  std::printf("case  step ms  GFLOP/s  Eigen's GFLOP/s at that width  share  float64 / float32\n");
  for (const Case& c : cases) {
    const double seconds = step_seconds<float>(c), eigen = eigen_rate<float>(pushforward::kTileRows, c.hidden);
    const double flops = 6 * multiply_adds(pushforward::Flow<float>(description(c))) * static_cast<double>(c.rows);
    const double rate = 1e-9 * flops / seconds;
    std::printf("%s     %7.3f  %7.0f  %29.0f  %4.0f%%  %17.2f\n", c.name, 1e3 * seconds, rate, eigen,
                100 * rate / eigen, step_seconds<double>(c) / seconds);
  }
  std::printf("\na value through a spline and back, ns: 4 bins %.1f, 8 bins %.1f, 16 bins %.1f; float64, 8 bins %.1f\n",
              spline_nanoseconds<float, 4>(), spline_nanoseconds<float, 8>(), spline_nanoseconds<float, 16>(),
              spline_nanoseconds<double, 8>());
}
