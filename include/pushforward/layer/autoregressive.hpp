// An autoregressive layer (Kingma et al. 2016; Papamakarios, Pavlakou, Murray 2017): a masked network gives each
// feature parameters that depend on the features of earlier passes, and on the context. From the side that the network
// reads, all features move in one pass. From the other side they move pass by pass, each pass computing the units of
// its own group only, so that all of them together cost about as much arithmetic as one.
#pragma once

#include <memory>

#include "pushforward/layer/elementwise.hpp"
#include "pushforward/layer/layer.hpp"
#include "pushforward/network/network.hpp"

namespace pushforward {

template <class Scalar>
class Autoregressive final : public Layer<Scalar> {
 public:
  // passes: for each pass the columns of the state that it moves; domains: by column. read: the direction whose
  // argument the network reads. make_network(ports) gives the network.
  template <class MakeNetwork>
  Autoregressive(const std::vector<std::vector<Index>>& passes, const std::vector<Domain>& domains, Index context,
                 Direction read, std::unique_ptr<Transform<Scalar>> transform, MakeNetwork&& make_network)
      : context_(context),
        read_(read),
        transform_(std::move(transform)),
        features_(*transform_, in_order(passes), domains),
        inputs_(in_order(passes), domains),
        ends_(ends_of(passes)),
        network_(make_network(ports())) {}

  std::vector<ParameterBlock> parameters() const override {
    auto blocks = network_.parameters();
    for (auto& block : blocks) block.name = "conditioner." + block.name;
    return blocks;
  }

  // The network's, the features', the angles'.
  Index cache_columns() const override { return angles_column() + inputs_.cache_columns(); }
  Index scratch_columns() const override {
    return features_.theta_columns() + network_.scratch_columns() + network_.cache_columns();
  }

  void map(Direction direction, const Scalar* parameters, const Tile<Scalar>& tile, Scalar* cache) const override {
    Scalar* features = cache + features_column() * kTileRows;
    for (Index i = 0; i < context_; ++i) std::copy_n(tile.context + i * kTileRows, tile.padded, cache + i * kTileRows);
    if (direction == read_) {
      read(features_.all(), tile, cache);
      network_.evaluate(network_.all_groups(), parameters, tile.dropout, tile.padded, cache, features);
      features_.map(direction, features_.all(), tile, features);
      return;
    }
    for (Index pass = 0; pass < passes(); ++pass) {
      network_.evaluate({pass, pass + 1}, parameters, tile.dropout, tile.padded, cache, features);
      features_.map(direction, of_pass(pass), tile, features);
      read(of_pass(pass), tile, cache);
    }
  }

  void vjp(Direction direction, const Scalar* parameters, const Tile<Scalar>& tile, Scalar* cache,
           const TileGrad<Scalar>& grad, Scalar* scratch) const override {
    const Scalar* features = cache + features_column() * kTileRows;
    Scalar* dtheta = scratch;
    Scalar* transposed = dtheta + features_.theta_columns() * kTileRows;
    const Scalar* dcontext = cache;
    if (direction == read_) {
      features_.vjp(direction, features_.all(), tile, features, grad, dtheta);
      network_.vjp(parameters, tile.rows, tile.padded, cache, dtheta, grad.parameters, transposed);
      read_vjp(features_.all(), tile, cache, cache, grad);
    } else {
      // The derivative by a feature is whole once the later passes, whose parameters it went into, are done.
      Scalar* gradient = transposed + network_.scratch_columns() * kTileRows;
      for (Index pass = passes(); pass-- > 0;) {
        features_.vjp(direction, of_pass(pass), tile, features, grad, dtheta);
        network_.vjp_group(pass, parameters, tile.padded, cache, dtheta, gradient);
        if (pass > 0) read_vjp(of_pass(pass - 1), tile, cache, gradient, grad);
      }
      if (grad.parameters)
        network_.vjp_parameters(tile.rows, tile.padded, cache, dtheta, gradient, grad.parameters, transposed);
      dcontext = gradient;
    }
    if (grad.context)
      for_each_lanes(tile.padded, context_, [&](Index at) { lanes(grad.context + at) += lanes(dcontext + at); });
  }

 private:
  static std::vector<Index> in_order(const std::vector<std::vector<Index>>& passes) {
    std::vector<Index> columns;
    for (const auto& pass : passes) columns.insert(columns.end(), pass.begin(), pass.end());
    return columns;
  }

  static std::vector<Index> ends_of(const std::vector<std::vector<Index>>& passes) {
    std::vector<Index> ends;
    for (const auto& pass : passes) ends.push_back((ends.empty() ? 0 : ends.back()) + static_cast<Index>(pass.size()));
    return ends;
  }

  Index passes() const { return static_cast<Index>(ends_.size()); }
  Features of_pass(Index pass) const { return {detail::begin_of(ends_, pass), detail::at(ends_, pass)}; }
  Index features_column() const { return network_.cache_columns(); }
  Index angles_column() const { return features_column() + features_.cache_columns(); }

  NetworkPorts ports() const {
    NetworkPorts ports{context_ + inputs_.input_columns(), {}, {}};
    for (Index pass = 0; pass < passes(); ++pass) {
      ports.inputs_end.push_back(context_ + inputs_.input_end(of_pass(pass).first));
      ports.outputs_end.push_back(features_.theta_end(of_pass(pass).last));
    }
    return ports;
  }

  void read(Features features, const Tile<Scalar>& tile, Scalar* cache) const {
    inputs_.read(features, tile.padded, tile.state, cache + context_ * kTileRows, cache + angles_column() * kTileRows);
  }

  void read_vjp(Features features, const Tile<Scalar>& tile, const Scalar* cache, const Scalar* gradient,
                const TileGrad<Scalar>& grad) const {
    inputs_.vjp(features, tile.padded, gradient + context_ * kTileRows, cache + angles_column() * kTileRows,
                grad.state);
  }

  Index context_;
  Direction read_;
  std::unique_ptr<Transform<Scalar>> transform_;
  Elementwise<Scalar> features_;
  FeatureInputs<Scalar> inputs_;
  std::vector<Index> ends_;  // of the features of each pass
  Network<Scalar> network_;
};

}  // namespace pushforward
