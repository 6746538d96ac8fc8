// Rows on their way through a flow, tile by tile.
#pragma once

#include <algorithm>
#include <limits>

#include "pushforward/engine/engine.hpp"
#include "pushforward/engine/memory.hpp"
#include "pushforward/engine/rounded_weights.hpp"
#include "pushforward/engine/workspace.hpp"
#include "pushforward/tile/subnormals.hpp"

namespace pushforward::engine {

// What every pass over the rows of a call does to one tile.
template <class Scalar>
class Pass {
 public:
  // context: null for a flow without one. temperature: of the base.
  Pass(const Stack<Scalar>& stack, const Table* context, double temperature = 1)
      : stack_(stack), weights_(stack), context_(context), temperature_(temperature) {}

  // A layer's parameters as its calls read them.
  const Scalar* parameters_of(std::size_t k) const { return weights_.parameters() + stack_.offset(k); }

  // Fills the tile that begins at row `first`: start(rows, work) writes its state and log_det, and marks rows that are
  // bad (a value is not finite) or outside the support. The context is read; embed() has to follow.
  template <class Start>
  Tile<Scalar> begin(Index first, Index all_rows, Workspace<Scalar>& work, Start&& start) const {
    const Index rows = std::min(stack_.tile_rows(), all_rows - first);
    std::fill_n(work.bad, kTileRows, false);
    std::fill_n(work.outside, kTileRows, false);
    start(rows, work);
    if (stack_.context() > 0)
      read_columns(*context_, first, rows, stack_.context_to_standard(), stack_.context_columns(), work.given_context,
                   work.bad);
    if (stack_.data_side().is_bounded())
      for (Index row = 0; row < rows; ++row) {
        work.outside[row] &= !work.bad[row];
        work.bad[row] |= work.outside[row];
      }
    return {rows, whole_lanes(rows), work.state, work.context, work.log_det, {}, false, work.scratch};
  }

  // Computes what layers read of the context, if that is not the context itself.
  void embed(const Tile<Scalar>& tile, const DropoutKey& dropout, Workspace<Scalar>& work) const {
    if (const auto* network = stack_.context_network())
      network->evaluate(network->all_groups(), stack_.context_network_parameters(), dropout, tile.padded,
                        work.given_context, work.context);
  }

  // The tile of the caller's points: latent points as they are, data points through the data side, with the noise of a
  // key in cells.
  Tile<Scalar> load(Direction direction, const Table& input, Index first, Workspace<Scalar>& work,
                    std::uint64_t key = 0) const {
    return begin(first, input.rows, work, [&](Index rows, Workspace<Scalar>& to) {
      if (direction == Direction::forward) {
        read_columns(input, first, rows, stack_.identity(), stack_.latent_columns(), to.state, to.bad);
        stack_.data_side().start_forward_log_det(to.log_det);
      } else {
        stack_.data_side().read(input, first, rows, stack_.data_columns(), to.state, to.log_det, to.bad, to.outside,
                                key);
      }
    });
  }

  // whole, moved: as of DataSide::write; moved may be null.
  void store(Direction direction, const Tile<Scalar>& tile, Index first, const Workspace<Scalar>& work, Output to,
             bool whole, bool* moved) const {
    if (direction == Direction::forward)
      stack_.data_side().write(tile.state, first, tile.rows, stack_.data_columns(), work.bad, to, whole, moved);
    else
      write_columns(tile.state, first, tile.rows, stack_.dim(), stack_.identity(), stack_.latent_columns(), work.bad,
                    to);
  }

  void base_log_prob(const Tile<Scalar>& tile, Workspace<Scalar>& work) const {
    std::fill_n(work.log_prob, kTileRows, 0.0);
    stack_.base().log_prob(stack_.base_parameters(), temperature_, tile.padded, tile.state, work.log_prob,
                           work.base_scratch);
  }

  // log p(x) = log p_base(z) + log|det dz/dx|; there is no density outside the support.
  void density(Direction direction, const Tile<Scalar>& tile, Workspace<Scalar>& work) const {
    const double sign = direction == Direction::inverse ? 1.0 : -1.0;
    for (Index row = 0; row < tile.rows; ++row) work.log_prob[row] += sign * work.log_det[row];
    if (stack_.data_side().is_bounded())
      for (Index row = 0; row < tile.rows; ++row)
        if (work.outside[row]) work.log_prob[row] = -std::numeric_limits<double>::infinity();
  }

  void copy_rows(const double* from, const bool* bad, Index rows, double* to) const {
    for (Index row = 0; row < rows; ++row) to[row] = bad[row] ? NAN : from[row];
  }

  void copy_density(const Workspace<Scalar>& work, Index rows, double* to) const {
    copy_rows(work.log_prob, work.bad, rows, to);
    if (stack_.data_side().is_bounded())
      for (Index row = 0; row < rows; ++row)
        if (work.outside[row]) to[row] = work.log_prob[row];
  }

  // Writes for the rows that were moved the log-determinant and the density of the point that was written, as the
  // inverse finds them.
  void score_as_written(Index first, Index all_rows, const bool* moved, Workspace<Scalar>& work,
                        const Results& results) const {
    const Index dim = stack_.dim();
    const Table written{results.output.data, results.output.is_double, all_rows, dim, dim, 1, nullptr};
    const Tile<Scalar> tile = load(Direction::inverse, written, first, work);
    carry(Direction::inverse, tile, true, work);
    density(Direction::inverse, tile, work);
    for (Index row = 0; row < tile.rows; ++row) {
      if (!moved[row] || work.bad[row]) continue;
      if (results.log_det) results.log_det[first + row] = -work.log_det[row];
      if (results.log_prob) results.log_prob[first + row] = work.log_prob[row];
    }
  }

  // Takes all tiles through the flow. begin_tile(first, work) gives a tile. whole: whether points in cells are written
  // as whole numbers.
  template <class BeginTile>
  void run(Direction direction, Index rows, bool whole, const Results& results, int threads,
           BeginTile&& begin_tile) const {
    const Index tiles = tile_count(rows, stack_.tile_rows());
    const WorkspaceShape shape = workspace_shape(stack_, false);
    const CallMemory<Scalar> memory(Workspace<Scalar>::bytes(shape), 0, threads_for(tiles, threads), 0);
    parallel_for(tiles, threads, [&](Index index, int thread) {
      Workspace<Scalar> work(shape, memory.workspace(thread));
      const Index first = index * stack_.tile_rows();
      const bool scores = results.log_det || results.log_prob;
      const Tile<Scalar> tile = begin_tile(first, work);
      carry(direction, tile, results.log_prob != nullptr, work);
      if (direction == Direction::forward && scores)
        stack_.data_side().add_forward_log_det(tile.state, tile.rows, stack_.data_columns(), work.log_det);
      bool moved[kTileRows] = {};
      if (results.output.data) store(direction, tile, first, work, results.output, whole, scores ? moved : nullptr);
      if (results.log_det) copy_rows(work.log_det, work.bad, tile.rows, results.log_det + first);
      if (results.log_prob) {
        density(direction, tile, work);
        copy_density(work, tile.rows, results.log_prob + first);
      }
      if (direction == Direction::forward && std::find(moved, moved + tile.rows, true) != moved + tile.rows)
        score_as_written(first, rows, moved, work, results);
    });
  }

 private:
  // Takes a tile from one side to the other, and computes the density of its latent points if it is wanted.
  void carry(Direction direction, const Tile<Scalar>& tile, bool wants_density, Workspace<Scalar>& work) const {
    const SubnormalMode mode(Subnormals::zero);
    embed(tile, {}, work);
    if (direction == Direction::forward && wants_density) base_log_prob(tile, work);
    for (std::size_t i = 0; i < stack_.layer_count(); ++i) {
      const std::size_t k = stack_.layer_on_way(direction, i);
      stack_.layer(k).map(direction, parameters_of(k), tile, work.cache);
    }
    if (direction == Direction::inverse && wants_density) base_log_prob(tile, work);
  }

  const Stack<Scalar>& stack_;
  RoundedWeights<Scalar> weights_;
  const Table* context_;
  double temperature_;
};

template <class Scalar>
void map(const Stack<Scalar>& stack, Direction direction, const Table& input, const Table* context,
         const Results& results, int threads) {
  const Pass<Scalar> pass(stack, context, results.temperature);
  pass.run(direction, input.rows, false, results, threads,
           [&](Index first, Workspace<Scalar>& work) { return pass.load(direction, input, first, work); });
}

template <class Scalar>
void sample(const Stack<Scalar>& stack, const Draws& draws, Index rows, const Table* context, const Results& results,
            int threads) {
  const Pass<Scalar> pass(stack, context, results.temperature);
  pass.run(Direction::forward, rows, true, results, threads, [&](Index first, Workspace<Scalar>& work) {
    return pass.begin(first, rows, work, [&](Index count, Workspace<Scalar>& to) {
      const SubnormalMode mode(Subnormals::zero);
      stack.base().sample(stack.base_parameters(), results.temperature, {draws.key, draws.first_row + first},
                          whole_lanes(count), to.state, to.base_scratch);
      stack.data_side().start_forward_log_det(to.log_det);
    });
  });
}

template <class Scalar>
void base_log_prob(const Stack<Scalar>& stack, const Table& z, double* log_prob, double temperature, int threads) {
  const Pass<Scalar> pass(stack, nullptr, temperature);
  const Index tiles = tile_count(z.rows);
  const WorkspaceShape shape = workspace_shape(stack, false);
  const CallMemory<Scalar> memory(Workspace<Scalar>::bytes(shape), 0, threads_for(tiles, threads), 0);
  parallel_for(tiles, threads, [&](Index index, int thread) {
    Workspace<Scalar> work(shape, memory.workspace(thread));
    const Index first = index * kTileRows, rows = std::min(kTileRows, z.rows - first);
    std::fill_n(work.bad, kTileRows, false);
    read_columns(z, first, rows, stack.identity(), stack.latent_columns(), work.state, work.bad);
    {
      const SubnormalMode mode(Subnormals::zero);
      pass.base_log_prob({rows, whole_lanes(rows), work.state, work.context, work.log_det}, work);
    }
    for (Index i = 0; i < stack.dim(); ++i) {
      if (stack.latent_domains()[static_cast<std::size_t>(i)] != Domain::box) continue;
      for (Index row = 0; row < rows; ++row)
        if (std::abs(work.state[i][row]) > 1) work.log_prob[row] = -std::numeric_limits<double>::infinity();
    }
    pass.copy_rows(work.log_prob, work.bad, rows, log_prob + first);
  });
}

template <class Scalar>
void sample_latent(const Stack<Scalar>& stack, const Draws& draws, Index rows, Output z, double temperature,
                   int threads) {
  const Index tiles = tile_count(rows);
  const WorkspaceShape shape = workspace_shape(stack, false);
  const CallMemory<Scalar> memory(Workspace<Scalar>::bytes(shape), 0, threads_for(tiles, threads), 0);
  parallel_for(tiles, threads, [&](Index index, int thread) {
    Workspace<Scalar> work(shape, memory.workspace(thread));
    const Index first = index * kTileRows, count = std::min(kTileRows, rows - first);
    std::fill_n(work.bad, kTileRows, false);
    {
      const SubnormalMode mode(Subnormals::zero);
      stack.base().sample(stack.base_parameters(), temperature, {draws.key, draws.first_row + first},
                          whole_lanes(count), work.state, work.base_scratch);
    }
    write_columns(work.state, first, count, stack.dim(), stack.identity(), stack.latent_columns(), work.bad, z);
  });
}

template <class Scalar>
void to_line(const Stack<Scalar>& stack, const Table& x, double* y, int threads) {
  parallel_for(tile_count(x.rows), threads, [&](Index index, int) {
    const Index first = index * kTileRows;
    stack.data_side().to_line(x, first, std::min(kTileRows, x.rows - first), y);
  });
}

}  // namespace pushforward::engine
