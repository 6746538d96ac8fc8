// The adjoint of a pass: each tile is taken through the flow and straight back, while what its layers keep is in cache.
#pragma once

#include "pushforward/engine/pass.hpp"
#include "pushforward/engine/tiles.hpp"

namespace pushforward::engine {

template <class Scalar>
class Adjoint {
 public:
  Adjoint(const Stack<Scalar>& stack, Direction direction, const Table& input, const Table* context, const Seeds& seeds,
          const Gradients<Scalar>& gradients)
      : stack_(stack),
        pass_(stack, context),
        direction_(direction),
        input_(input),
        seeds_(seeds),
        gradients_(gradients) {
    if (gradients.share) first_row_ = first_row(*gradients.share, stack);
  }

  // Where the rows of a share begin in their minibatch.
  static Index first_row(const SlotShare& share, const Stack<Scalar>& stack) {
    const Index tiles = tile_count(share.rows, stack.tile_rows());
    const Index slots = SlotPlan::slots(tiles, stack.parameter_count() * Index(sizeof(Scalar)));
    return SlotPlan::first_tile(share.first, slots, tiles) * stack.tile_rows();
  }

  // One tile there and back. Returns its part of the scalar when the seeds are a density's.
  double tile(Index index, GradientSum<Scalar> sum, Workspace<Scalar>& work) const {
    const Index first = index * stack_.tile_rows();
    Tile<Scalar> tile = pass_.load(direction_, input_, first, work, seeds_.dropout);
    if (seeds_.weights) clear_rows_without_weight(first, tile, work);
    Softening softening;
    if (!seeds_.output) {
      softening.measure(tile, tile.state, stack_.dim());
      softening.measure(tile, work.given_context, stack_.context());
    }
    tile.keeps_cache = true;
    const Columns<Scalar> cache_end = carry({seeds_.dropout, first_row_ + first}, tile, work);
    std::fill_n(work.grad_log_det, kTileRows, Scalar(0));
    const std::size_t layers = stack_.layer_count();
    Scalar* dbase = sum.part(stack_.offset(layers), stack_.end(layers));
    double value = 0;
    if (seeds_.output) {
      seed_by_results(first, tile, work);
    } else {
      value = seed_by_density(first, tile, dbase, work);
      softening.measure(tile, tile.state, stack_.dim());
      softening.measured(tile);
      if (softening.any) soften(tile, softening, work);
    }
    carry_back(tile, cache_end, softening, sum, work);
    if (gradients_.input.data) store_input_gradient(first, tile, softening, work);
    if (gradients_.context.data) store_context_gradient(first, tile, work);
    return value;
  }

 private:
  // The derivatives of a row by parameters are products of those by its state with numbers as large as the state, and
  // with two of them for a weight. So that none overflows, those by the state of a far row are kept below
  // kMostPull / size^2, layer by layer, all by one factor.
  static constexpr double kMostPull = std::is_same_v<Scalar, float> ? 1e26 : 1e140;
  static constexpr double kFar = std::is_same_v<Scalar, float> ? 1e6 : 1e30;  // nearer rows do not come near it

  struct Softening {
    alignas(64) Scalar size[kTileRows] = {};  // the greatest number of a row on either side, and in its context
    bool any = false;                         // whether a row is far
    double factor[kTileRows];                 // if any: what the derivatives of each row were multiplied with

    void measure(const Tile<Scalar>& tile, Columns<const Scalar> columns, Index count) {
      for_each_lanes(tile.padded, count, [&](Index column, Index row) {
        lanes(size + row) = lanes(size + row).max(lanes(columns[column] + row).abs());
      });
    }
    void measured(const Tile<Scalar>& tile) {
      any = *std::max_element(size, size + tile.rows) > static_cast<Scalar>(kFar);
      if (any) std::fill_n(factor, kTileRows, 1.0);
    }
  };

  void soften(const Tile<Scalar>& tile, Softening& softening, Workspace<Scalar>& work) const {
    for (Index row = 0; row < tile.rows; ++row) {
      const auto size = static_cast<double>(softening.size[row]);
      if (!(size > kFar)) continue;
      double pull = 0;
      for (Index i = 0; i < stack_.dim(); ++i)
        pull = std::max(pull, std::abs(static_cast<double>(work.grad_state[i][row])));
      const double most = kMostPull / (size * size);
      if (pull <= most) continue;
      const double factor = most / pull;
      softening.factor[row] *= factor;
      const auto soften_one = [&](Scalar& value) { value = static_cast<Scalar>(static_cast<double>(value) * factor); };
      soften_one(work.grad_log_det[row]);
      for (Index i = 0; i < stack_.dim(); ++i) soften_one(work.grad_state[i][row]);
    }
  }

  // Takes a tile through the flow. Returns the end of what its layers keep.
  Columns<Scalar> carry(const DropoutKey& dropout, Tile<Scalar>& tile, Workspace<Scalar>& work) const {
    const SubnormalMode mode(Subnormals::zero);
    pass_.embed(tile, dropout.part(stack_.layer_count()), work);
    Columns<Scalar> cache = work.cache;
    for (std::size_t i = 0; i < stack_.layer_count(); ++i) {
      const std::size_t k = stack_.layer_on_way(direction_, i);
      tile.dropout = dropout.part(k);
      stack_.layer(k).map(direction_, pass_.parameters_of(k), tile, cache);
      cache = cache.from(stack_.layer(k).cache_columns());
    }
    return cache;
  }

  // From the derivatives by the results to those by the input, by what layers read of the context and by the
  // parameters. cache: the end of what the layers kept.
  void carry_back(const Tile<Scalar>& tile, Columns<Scalar> cache, Softening& softening, GradientSum<Scalar> sum,
                  Workspace<Scalar>& work) const {
    const SubnormalMode mode(Subnormals::zero);
    const bool needs_context = gradients_.context.data || (stack_.context_network() && sum.data);
    if (needs_context) std::fill_n(work.grad_context.data(), stack_.embedding() * kTileRows, Scalar(0));
    TileGrad<Scalar> grad{work.grad_state, needs_context ? work.grad_context : Columns<Scalar>(), work.grad_log_det,
                          nullptr};
    for (std::size_t i = stack_.layer_count(); i-- > 0;) {
      const std::size_t k = stack_.layer_on_way(direction_, i);
      cache = cache.from(-stack_.layer(k).cache_columns());
      grad.parameters = sum.part(stack_.offset(k), stack_.end(k));
      stack_.layer(k).vjp(direction_, pass_.parameters_of(k), tile, cache, grad, work.scratch);
      if (softening.any) soften(tile, softening, work);
    }
    if (needs_context) context_network_vjp(tile, sum, work);
  }

  double weight(Index row) const {
    return seeds_.weights ? seeds_.weights[input_.index ? input_.index[row] : row] : 1.0;
  }

  // A row of weight 0 is not there, whatever it holds: zeros take its place.
  void clear_rows_without_weight(Index first, const Tile<Scalar>& tile, Workspace<Scalar>& work) const {
    for (Index row = 0; row < tile.rows; ++row) {
      if (weight(first + row) != 0) continue;
      for (Index i = 0; i < stack_.dim(); ++i) work.state[i][row] = Scalar(0);
      for (Index i = 0; i < stack_.context(); ++i) work.given_context[i][row] = Scalar(0);
      work.log_det[row] = 0;
      work.bad[row] = work.outside[row] = false;
    }
  }

  // The derivatives by both results of the map are given.
  void seed_by_results(Index first, const Tile<Scalar>& tile, Workspace<Scalar>& work) const {
    if (direction_ == Direction::forward)
      stack_.data_side().read_grad(*seeds_.output, seeds_.log_det, input_.is_double, first, tile.rows,
                                   stack_.data_columns(), tile.state, work.grad_state, work.bad);
    else
      read_columns(*seeds_.output, first, tile.rows, stack_.identity(), stack_.latent_columns(), work.grad_state,
                   work.bad);
    for (Index row = 0; row < tile.rows; ++row)
      work.grad_log_det[row] = static_cast<Scalar>(seeds_.log_det[first + row]);
    // NaN in the seeds of a bad row makes NaN of what depends on it: its own results, and every sum over rows.
    for (Index row = 0; row < tile.rows; ++row) {
      if (!work.bad[row]) continue;
      work.grad_log_det[row] = std::numeric_limits<Scalar>::quiet_NaN();
      for (Index i = 0; i < stack_.dim(); ++i) work.grad_state[i][row] = work.grad_log_det[row];
    }
  }

  // Those by each row's log p(x); returns the sum of weight * log p(x) / normalizer.
  double seed_by_density(Index first, const Tile<Scalar>& tile, Scalar* dbase, Workspace<Scalar>& work) const {
    double shares[kTileRows];  // of the rows in the scalar, by their weights, which may be subnormal
    for (Index row = 0; row < tile.rows; ++row)
      shares[row] = (work.bad[row] ? NAN : weight(first + row)) / seeds_.normalizer;
    {
      const SubnormalMode mode(Subnormals::zero);
      pass_.base_log_prob(tile, work);
      for (Index row = 0; row < tile.rows; ++row) work.grad_log_det[row] = static_cast<Scalar>(shares[row]);
      stack_.base().vjp(stack_.base_parameters(), tile.padded, tile.state, work.grad_log_det, work.grad_state, dbase,
                        work.base_scratch);
    }
    pass_.density(direction_, tile, work);
    double sum = 0;
    for (Index row = 0; row < tile.rows; ++row) {
      const double w = weight(first + row);
      if (w != 0) sum += (work.outside[row] ? w / seeds_.normalizer : shares[row]) * work.log_prob[row];
    }
    if (gradients_.log_prob) pass_.copy_density(work, tile.rows, gradients_.log_prob + first);
    return sum;
  }

  // From the derivatives by what layers read of the context to those by the parameters of the network that computed it,
  // and, in the place of its input, by that input.
  void context_network_vjp(const Tile<Scalar>& tile, GradientSum<Scalar> sum, Workspace<Scalar>& work) const {
    const auto* network = stack_.context_network();
    if (!network) return;
    const std::size_t k = stack_.layer_count() + 1;
    network->vjp(stack_.parameters_of(k), tile.rows, tile.padded, work.given_context, work.grad_context,
                 sum.part(stack_.offset(k), stack_.end(k)), work.scratch.data(), gradients_.context.data != nullptr);
  }

  void store_context_gradient(Index first, const Tile<Scalar>& tile, const Workspace<Scalar>& work) const {
    write_columns(stack_.context_network() ? work.given_context : work.grad_context, first, tile.rows, stack_.context(),
                  stack_.context_grad(), stack_.context_columns(), work.bad, gradients_.context);
  }

  void store_input_gradient(Index first, const Tile<Scalar>& tile, const Softening& softening,
                            const Workspace<Scalar>& work) const {
    if (direction_ == Direction::forward)
      write_columns(work.grad_state, first, tile.rows, stack_.dim(), stack_.identity(), stack_.latent_columns(),
                    work.bad, gradients_.input);
    else
      stack_.data_side().write_grad(work.grad_state, work.grad_log_det, input_, first, tile.rows, stack_.data_columns(),
                                    work.bad, gradients_.input, seeds_.dropout);
    // Those by the row itself are what they are.
    if (softening.any && gradients_.input.is_double)
      sharpen(first, tile, softening, static_cast<double*>(gradients_.input.data));
    else if (softening.any)
      sharpen(first, tile, softening, static_cast<float*>(gradients_.input.data));
  }

  template <class T>
  void sharpen(Index first, const Tile<Scalar>& tile, const Softening& softening, T* gradient) const {
    for (Index row = 0; row < tile.rows; ++row)
      for (Index i = 0; i < stack_.dim(); ++i) {
        T& value = gradient[(first + row) * stack_.dim() + i];
        if (softening.factor[row] > 0) value = narrowed<T>(static_cast<double>(value) / softening.factor[row]);
      }
  }

  const Stack<Scalar>& stack_;
  Pass<Scalar> pass_;
  Direction direction_;
  const Table& input_;
  const Seeds& seeds_;
  const Gradients<Scalar>& gradients_;
  Index first_row_ = 0;  // in the minibatch
};

template <class Scalar>
double vjp(const Stack<Scalar>& stack, Direction direction, const Table& input, const Table* context,
           const Seeds& seeds, const Gradients<Scalar>& gradients, int threads) {
  const Adjoint<Scalar> adjoint(stack, direction, input, context, seeds, gradients);
  const Index tiles = tile_count(input.rows, stack.tile_rows());
  const WorkspaceShape shape = workspace_shape(stack, true);
  const std::size_t bytes = Workspace<Scalar>::bytes(shape);
  if (!gradients.parameters) {
    const CallMemory<Scalar> memory(bytes, 0, threads_for(tiles, threads), 0);
    parallel_for(tiles, threads, [&](Index index, int thread) {
      Workspace<Scalar> work(shape, memory.workspace(thread));
      adjoint.tile(index, {}, work);
    });
    return 0;
  }
  const Index count = stack.parameter_count();
  const auto of_tile = [&](Index index, GradientSum<Scalar> sum, std::byte* memory) {
    Workspace<Scalar> work(shape, memory);
    return adjoint.tile(index, sum, work);
  };
  if (!gradients.share)
    return sum_over_tiles(tiles, bytes, count, gradients.parameters, gradients.norm, threads, of_tile);
  const SlotShare& share = *gradients.share;
  const SlotPlan plan(tile_count(share.rows, stack.tile_rows()), count * Index(sizeof(Scalar)),
                      threads_for(tiles, threads), share.first, share.last);
  sum_over_slots(plan, bytes, count, gradients.parameters, share.values, nullptr, threads, of_tile);
  return 0;
}

}  // namespace pushforward::engine
