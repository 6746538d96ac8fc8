// A coupling layer: the kept features (and the context) go through a network, whose outputs are the parameters of an
// elementwise transform that moves the others. The kept ones may be moved too, by a transform whose parameters are the
// same for all rows; the network reads them on the x side.
#pragma once

#include <memory>

#include "pushforward/layer/elementwise.hpp"
#include "pushforward/layer/layer.hpp"
#include "pushforward/network/network.hpp"

namespace pushforward {

template <class Scalar>
class Coupling final : public Layer<Scalar> {
 public:
  // kept, moved: columns of the state; domains: by column. make_network(ports) gives the network.
  template <class MakeNetwork>
  Coupling(const std::vector<Index>& kept, const std::vector<Index>& moved, const std::vector<Domain>& domains,
           Index context, bool unconditional, std::unique_ptr<Transform<Scalar>> transform, MakeNetwork&& make_network)
      : context_(context),
        transform_(std::move(transform)),
        moved_(*transform_, moved, domains),
        kept_(*transform_, unconditional ? kept : std::vector<Index>(), domains),
        inputs_(kept, domains),
        network_(make_network(NetworkPorts{
            inputs_.input_columns() + context, {inputs_.input_columns() + context}, {moved_.theta_columns()}})) {}

  std::vector<ParameterBlock> parameters() const override {
    auto blocks = network_.parameters();
    for (auto& block : blocks) block.name = "conditioner." + block.name;
    if (kept_.size() > 0) blocks.push_back({"unconditional", unconditional_shape(), 0.0});
    return blocks;
  }

  // The network's, the moved features', the kept ones', the angles'.
  Index cache_columns() const override { return angles_column() + inputs_.cache_columns(); }
  Index scratch_columns() const override {
    return std::max(moved_.theta_columns() + network_.scratch_columns(), kept_.theta_columns());
  }

  void map(Direction direction, const Scalar* parameters, const Tile<Scalar>& tile, Scalar* cache) const override {
    if (direction == Direction::forward) map_kept(direction, parameters, tile, cache);
    inputs_.read(inputs_.all(), tile.padded, tile.state, cache, cache + angles_column() * kTileRows);
    for (Index i = 0; i < context_; ++i)
      std::copy_n(tile.context + i * kTileRows, tile.padded, cache + (inputs_.input_columns() + i) * kTileRows);
    Scalar* moved = cache + moved_column() * kTileRows;
    network_.evaluate(network_.all_groups(), parameters, tile.dropout, tile.padded, cache, moved);
    moved_.map(direction, moved_.all(), tile, moved);
    if (direction == Direction::inverse) map_kept(direction, parameters, tile, cache);
  }

  void vjp(Direction direction, const Scalar* parameters, const Tile<Scalar>& tile, Scalar* cache,
           const TileGrad<Scalar>& grad, Scalar* scratch) const override {
    if (direction == Direction::inverse) vjp_kept(direction, tile, cache, grad, scratch);
    Scalar* dtheta = scratch;
    moved_.vjp(direction, moved_.all(), tile, cache + moved_column() * kTileRows, grad, dtheta);
    network_.vjp(parameters, tile.rows, tile.padded, cache, dtheta, grad.parameters,
                 dtheta + moved_.theta_columns() * kTileRows);
    inputs_.vjp(inputs_.all(), tile.padded, cache, cache + angles_column() * kTileRows, grad.state);
    if (grad.context) {
      const Scalar* dcontext = cache + inputs_.input_columns() * kTileRows;
      for_each_lanes(tile.padded, context_, [&](Index at) { lanes(grad.context + at) += lanes(dcontext + at); });
    }
    if (direction == Direction::forward) vjp_kept(direction, tile, cache, grad, scratch);
  }

 private:
  Index moved_column() const { return network_.cache_columns(); }
  Index kept_column() const { return moved_column() + moved_.cache_columns(); }
  Index angles_column() const { return kept_column() + kept_.cache_columns(); }

  // One row of parameters a feature, if all have as many.
  std::vector<Index> unconditional_shape() const {
    const Index count = kept_.theta_columns(), each = count / kept_.size();
    for (Index i = 0; i < kept_.size(); ++i)
      if (kept_.theta_end(i) != i * each) return {count};
    return {kept_.size(), each};
  }

  void map_kept(Direction direction, const Scalar* parameters, const Tile<Scalar>& tile, Scalar* cache) const {
    Scalar* kept = cache + kept_column() * kTileRows;
    const Scalar* values = parameters + network_.parameter_count();
    for (Index i = 0; i < kept_.theta_columns(); ++i) std::fill_n(kept + i * kTileRows, tile.padded, values[i]);
    kept_.map(direction, kept_.all(), tile, kept);
  }

  void vjp_kept(Direction direction, const Tile<Scalar>& tile, const Scalar* cache, const TileGrad<Scalar>& grad,
                Scalar* dtheta) const {
    kept_.vjp(direction, kept_.all(), tile, cache + kept_column() * kTileRows, grad, dtheta);
    if (!grad.parameters) return;
    Scalar* sums = grad.parameters + network_.parameter_count();
    for (Index i = 0; i < kept_.theta_columns(); ++i) {
      Lanes<Scalar> sum = lanes(dtheta + i * kTileRows);
      for (Index row = kLanes; row < tile.padded; row += kLanes) sum += lanes(dtheta + i * kTileRows + row);
      sums[i] += sum.sum();
    }
  }

  Index context_;
  std::unique_ptr<Transform<Scalar>> transform_;
  Elementwise<Scalar> moved_, kept_;
  FeatureInputs<Scalar> inputs_;
  Network<Scalar> network_;
};

}  // namespace pushforward
