// Parameters taken from data before training: the start of the layers that have one (ActNorm).
#pragma once

#include "pushforward/engine/pass.hpp"

namespace pushforward::engine {

// Rows with a standardised value beyond this are left out when a layer takes its start from data: one such row in a
// thousand would double a variance. Even two well separated clusters stay far below it.
inline constexpr double kFarthestStart = 30;

struct Moments {
  std::vector<double> mean, deviation;  // by column of the state
};

// Weighted mean and standard deviation on the x side of a layer: one pass over tiles, each tile's shifted sums combined
// in order (Chan, Golub, LeVeque 1983). Rows further than `farthest` standard deviations out in a feature of the data
// are left out, unless there are no others.
template <class Scalar>
Moments moments(const Stack<Scalar>& stack, std::size_t layer, const Table& x, const Table* context,
                const double* weights, int threads, double farthest = kFarthestStart) {
  const Pass<Scalar> pass(stack, context);
  const Index tiles = tile_count(x.rows, stack.tile_rows());
  const auto width = static_cast<std::size_t>(stack.dim());
  std::vector<double> weight(static_cast<std::size_t>(tiles)), means(weight.size() * width),
      squares(weight.size() * width);
  const WorkspaceShape shape = workspace_shape(stack, false);
  const CallMemory<Scalar> memory(Workspace<Scalar>::bytes(shape), 0, threads_for(tiles, threads), 0);
  parallel_for(tiles, threads, [&](Index index, int thread) {
    Workspace<Scalar> work(shape, memory.workspace(thread));
    const Index first = index * stack.tile_rows();
    const Tile<Scalar> tile = pass.load(Direction::inverse, x, first, work);
    double share[kTileRows];  // the rows' weights; 0 for rows left out
    for (Index row = 0; row < tile.rows; ++row) share[row] = weights ? weights[first + row] : 1.0;
    for (Index i = 0; i < stack.dim(); ++i)
      for (Index row = 0; row < tile.rows; ++row)
        if (std::abs(static_cast<double>(tile.state[i][row])) > farthest) share[row] = 0;
    {
      const SubnormalMode mode(Subnormals::zero);
      pass.embed(tile, {}, work);
      for (std::size_t k = stack.layer_count(); --k > layer;)
        stack.layer(k).map(Direction::inverse, pass.parameters_of(k), tile, work.cache);
    }
    const auto at = static_cast<std::size_t>(index);
    for (Index row = 0; row < tile.rows; ++row) weight[at] += share[row];
    if (!(weight[at] > 0)) return;
    for (std::size_t i = 0; i < width; ++i) {
      const Scalar* column = tile.state[static_cast<Index>(i)];
      double sum = 0, square = 0;
      for (Index row = 0; row < tile.rows; ++row)
        if (share[row] > 0) sum += share[row] * static_cast<double>(column[row]);
      const double center = sum / weight[at];
      for (Index row = 0; row < tile.rows; ++row)
        if (share[row] > 0) square += share[row] * std::pow(static_cast<double>(column[row]) - center, 2);
      means[at * width + i] = center;
      squares[at * width + i] = square;
    }
  });
  if (std::isfinite(farthest) && std::none_of(weight.begin(), weight.end(), [](double w) { return w > 0; }))
    return moments(stack, layer, x, context, weights, threads, std::numeric_limits<double>::infinity());
  Moments result{std::vector<double>(width), std::vector<double>(width)};
  for (std::size_t i = 0; i < width; ++i) {
    double total = 0, center = 0, square = 0;
    for (std::size_t at = 0; at < weight.size(); ++at) {
      if (!(weight[at] > 0)) continue;
      const double step = means[at * width + i] - center, next = total + weight[at];
      square += squares[at * width + i] + step * step * total * weight[at] / next;
      center += step * weight[at] / next;
      total = next;
    }
    result.mean[i] = center;
    result.deviation[i] = total > 0 ? std::sqrt(square / total) : 1.0;
  }
  return result;
}

template <class Scalar>
void initialize(Stack<Scalar>& stack, const Table& x, const Table* context, const double* weights, int threads) {
  for (std::size_t k = stack.layer_count(); k-- > 0;) {
    if (!stack.layer(k).starts_from_data()) continue;
    const Moments found = moments(stack, k, x, context, weights, threads);
    stack.layer(k).initialize(found.mean.data(), found.deviation.data(), stack.parameters() + stack.offset(k));
  }
}

}  // namespace pushforward::engine
