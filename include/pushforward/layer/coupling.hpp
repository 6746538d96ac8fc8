// A coupling layer: a network reads the kept features (and the context), and its outputs are the parameters of an
// elementwise transform that moves the other features. The kept features may be moved too, by a transform whose
// parameters are the same for all rows; the network then reads them on the x side.
#pragma once

#include <memory>

#include "pushforward/layer/conditioners.hpp"
#include "pushforward/layer/elementwise.hpp"
#include "pushforward/layer/feature_inputs.hpp"
#include "pushforward/layer/layer.hpp"
#include "pushforward/layer/place.hpp"
#include "pushforward/network/conditioner.hpp"
#include "pushforward/transform/transforms.hpp"

namespace pushforward {

template <class Scalar>
class Coupling final : public Layer<Scalar> {
 public:
  // kept, moved: columns of the state; domains: by column. make_conditioner(inputs, outputs, transform) returns the
  // network, which reads that many inputs and then the context.
  template <class MakeConditioner>
  Coupling(const std::vector<Index>& kept, const std::vector<Index>& moved, const std::vector<Domain>& domains,
           Index context, bool unconditional, std::unique_ptr<Transform<Scalar>> transform,
           MakeConditioner&& make_conditioner)
      : transform_(std::move(transform)),
        moved_(*transform_, moved, domains),
        kept_(*transform_, unconditional ? kept : std::vector<Index>(), domains),
        inputs_(kept, domains),
        context_{inputs_.input_columns(), context},
        network_(make_conditioner(inputs_.input_columns(), moved_.theta_columns(), *transform_)),
        parameter_count_(size_of(network_->parameters())) {}

  std::vector<ParameterBlock> parameters() const override {
    auto blocks = network_->parameters();
    for (auto& block : blocks) block.name = "conditioner." + block.name;
    if (kept_.size() > 0) blocks.push_back({"unconditional", unconditional_shape(), 0.0});
    return blocks;
  }

  Index cache_columns() const override { return cache_.count(); }
  Index scratch_columns() const override { return scratch_.count(); }
  Index tile_rows() const override { return network_->tile_rows(); }
  Index map_scratch_columns() const override { return network_->evaluate_scratch_columns(); }

  void map(Direction direction, const Scalar* parameters, const Tile<Scalar>& tile,
           Columns<Scalar> cache) const override {
    if (direction == Direction::forward) map_kept(direction, parameters, tile, cache);
    const auto network = cache[network_cache_], moved = cache[moved_cache_];
    inputs_.read(inputs_.all(), tile.padded, tile.state, network, cache[angles_]);
    for (Index i = 0; i < context_.count; ++i) std::copy_n(tile.context[i], tile.padded, network[context_][i]);
    network_->evaluate(parameters, tile.dropout, tile.padded, network, tile.scratch, moved);
    moved_.map(direction, moved_.all(), tile, moved);
    if (direction == Direction::inverse) map_kept(direction, parameters, tile, cache);
  }

  void vjp(Direction direction, const Scalar* parameters, const Tile<Scalar>& tile, Columns<Scalar> cache,
           const TileGrad<Scalar>& grad, Columns<Scalar> scratch) const override {
    if (direction == Direction::inverse) vjp_kept(direction, tile, cache, grad, scratch);
    const auto network = cache[network_cache_], dtheta = scratch[dtheta_];
    moved_.vjp(direction, moved_.all(), tile, cache[moved_cache_], grad, dtheta);
    network_->vjp(parameters, tile.dropout, tile.rows, tile.padded, network, dtheta, grad.parameters,
                  scratch[network_scratch_]);
    // The network's cache now holds the derivatives by its input.
    inputs_.vjp(inputs_.all(), tile.padded, network, cache[angles_], grad.state);
    if (grad.context)
      for_each_lanes(tile.padded, context_.count, [&](Index column, Index row) {
        lanes(grad.context[column] + row) += lanes(network[context_][column] + row);
      });
    if (direction == Direction::forward) vjp_kept(direction, tile, cache, grad, scratch);
  }

 private:
  // One row of parameters for each feature if all features have the same number of them.
  std::vector<Index> unconditional_shape() const {
    const Index count = kept_.theta_columns(), each = count / kept_.size();
    for (Index i = 0; i < kept_.size(); ++i)
      if (kept_.theta_columns(i) != i * each) return {count};
    return {kept_.size(), each};
  }

  void map_kept(Direction direction, const Scalar* parameters, const Tile<Scalar>& tile, Columns<Scalar> cache) const {
    kept_.map_alike(direction, parameters + parameter_count_, tile, cache[kept_cache_]);
  }

  void vjp_kept(Direction direction, const Tile<Scalar>& tile, Columns<const Scalar> cache,
                const TileGrad<Scalar>& grad, Columns<Scalar> scratch) const {
    const auto dtheta = scratch[kept_dtheta_];
    kept_.vjp(direction, kept_.all(), tile, cache[kept_cache_], grad, dtheta);
    if (!grad.parameters) return;
    Scalar* sums = grad.parameters + parameter_count_;
    for (Index i = 0; i < kept_.theta_columns(); ++i) {
      Lanes<Scalar> sum = lanes(dtheta[i]);
      for (Index row = kLanes; row < tile.padded; row += kLanes) sum += lanes(dtheta[i] + row);
      sums[i] += sum.sum();
    }
  }

  std::unique_ptr<Transform<Scalar>> transform_;
  Elementwise<Scalar> moved_, kept_;  // kept_ is empty unless the kept features are moved too
  FeatureInputs<Scalar> inputs_;
  Region context_;  // in the network's input, after the kept features
  std::unique_ptr<Conditioner<Scalar>> network_;
  Index parameter_count_;  // of the network

  ColumnLayout cache_;
  Region network_cache_ = cache_.take(network_->cache_columns());
  Region moved_cache_ = cache_.take(moved_.cache_columns());
  Region kept_cache_ = cache_.take(kept_.cache_columns());
  Region angles_ = cache_.take(inputs_.cache_columns());

  ColumnLayout scratch_;
  Region dtheta_ = scratch_.take(moved_.theta_columns());
  Region network_scratch_ = scratch_.take(network_->vjp_scratch_columns());
  Region kept_dtheta_ = scratch_.take(kept_.theta_columns());
};

template <class Scalar>
std::unique_ptr<Layer<Scalar>> make_coupling(const Json& description, const Place& place) {
  json::expect_names(description, {"kind", "transform", "conditioner", "mask", "unconditional", "kept"});
  const auto mask = json::booleans_member(description, "kept");
  if (mask.size() != place.columns.size()) throw std::invalid_argument("a coupling's mask needs one entry per feature");
  const Json& conditioner = json::member(description, "conditioner");
  const Conditioning<Scalar> conditioning = conditioning_of<Scalar>(conditioner, place, mask);
  if (conditioning.moved.empty()) throw std::invalid_argument("a coupling's mask keeps every feature");
  return std::make_unique<Coupling<Scalar>>(
      conditioning.kept, conditioning.moved, place.domains, place.context,
      description.contains("unconditional") && json::boolean_member(description, "unconditional"),
      transform_of<Scalar>(description), conditioning.make);
}

}  // namespace pushforward
