// An autoregressive layer (Kingma et al. 2016; Papamakarios, Pavlakou, Murray 2017): the parameters of each feature are
// computed by a masked network from the features of earlier passes and from the context. In the direction whose
// argument the network reads, all features move in one pass. In the other direction they move pass by pass; each pass
// computes the units of its own group only, so all passes together cost about as much arithmetic as one.
#pragma once

#include <memory>

#include "pushforward/layer/elementwise.hpp"
#include "pushforward/layer/feature_inputs.hpp"
#include "pushforward/layer/layer.hpp"
#include "pushforward/layer/place.hpp"
#include "pushforward/network/network.hpp"
#include "pushforward/network/networks.hpp"
#include "pushforward/transform/transforms.hpp"

namespace pushforward {

template <class Scalar>
class Autoregressive final : public Layer<Scalar> {
 public:
  // passes: for each pass the columns of the state that it moves; domains: by column. one_pass: the direction whose
  // argument the network reads. make_network(ports) returns the network.
  template <class MakeNetwork>
  Autoregressive(const std::vector<std::vector<Index>>& passes, const std::vector<Domain>& domains, Index context,
                 Direction one_pass, std::unique_ptr<Transform<Scalar>> transform, MakeNetwork&& make_network)
      : one_pass_(one_pass),
        transform_(std::move(transform)),
        features_(*transform_, in_order(passes), domains),
        inputs_(in_order(passes), domains),
        ends_(ends_of(passes)),
        context_(network_input_.take(context)),
        feature_inputs_(network_input_.take(inputs_.input_columns())),
        network_(make_network(ports())) {}

  std::vector<ParameterBlock> parameters() const override {
    auto blocks = network_.parameters();
    for (auto& block : blocks) block.name = "conditioner." + block.name;
    return blocks;
  }

  Index cache_columns() const override { return cache_.count(); }
  Index scratch_columns() const override { return scratch_.count(); }

  void map(Direction direction, const Scalar* parameters, const Tile<Scalar>& tile,
           Columns<Scalar> cache) const override {
    const auto network = cache[network_cache_], features = cache[features_cache_];
    for (Index i = 0; i < context_.count; ++i) std::copy_n(tile.context[i], tile.padded, network[context_][i]);
    if (direction == one_pass_) {
      read(features_.all(), tile, cache);
      network_.evaluate(network_.all_groups(), parameters, tile.dropout, tile.padded, network, features);
      features_.map(direction, features_.all(), tile, features);
      return;
    }
    for (Index pass = 0; pass < passes(); ++pass) {
      network_.evaluate({pass, pass + 1}, parameters, tile.dropout, tile.padded, network, features);
      features_.map(direction, of_pass(pass), tile, features);
      read(of_pass(pass), tile, cache);
    }
  }

  void vjp(Direction direction, const Scalar* parameters, const Tile<Scalar>& tile, Columns<Scalar> cache,
           const TileGrad<Scalar>& grad, Columns<Scalar> scratch) const override {
    const auto network = cache[network_cache_], features = cache[features_cache_], dtheta = scratch[dtheta_];
    Scalar* transposed = scratch[transposed_].data();
    Columns<Scalar> dnetwork;  // the derivatives by the network's input, and by its layers
    if (direction == one_pass_) {
      features_.vjp(direction, features_.all(), tile, features, grad, dtheta);
      network_.vjp(parameters, tile.rows, tile.padded, network, dtheta, grad.parameters, transposed);
      dnetwork = network;
      read_vjp(features_.all(), tile, cache, dnetwork, grad);
    } else {
      // The derivative by a feature is complete once all later passes, whose parameters depend on it, are done.
      dnetwork = scratch[dnetwork_];
      for (Index pass = passes(); pass-- > 0;) {
        features_.vjp(direction, of_pass(pass), tile, features, grad, dtheta);
        network_.vjp_group(pass, parameters, tile.padded, network, dtheta, dnetwork);
        if (pass > 0) read_vjp(of_pass(pass - 1), tile, cache, dnetwork, grad);
      }
      if (grad.parameters)
        network_.vjp_parameters(tile.rows, tile.padded, network, dtheta, dnetwork, grad.parameters, transposed);
    }
    if (grad.context)
      for_each_lanes(tile.padded, context_.count, [&](Index column, Index row) {
        lanes(grad.context[column] + row) += lanes(dnetwork[context_][column] + row);
      });
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

  NetworkPorts ports() const {
    NetworkPorts ports{network_input_.count(), {}, {}};
    for (Index pass = 0; pass < passes(); ++pass) {
      ports.inputs_end.push_back(feature_inputs_.first + inputs_.input_columns(of_pass(pass).first));
      ports.outputs_end.push_back(features_.theta_columns(of_pass(pass).last));
    }
    return ports;
  }

  void read(Features features, const Tile<Scalar>& tile, Columns<Scalar> cache) const {
    inputs_.read(features, tile.padded, tile.state, cache[network_cache_][feature_inputs_], cache[angles_]);
  }

  void read_vjp(Features features, const Tile<Scalar>& tile, Columns<const Scalar> cache,
                Columns<const Scalar> dnetwork, const TileGrad<Scalar>& grad) const {
    inputs_.vjp(features, tile.padded, dnetwork[feature_inputs_], cache[angles_], grad.state);
  }

  Direction one_pass_;
  std::unique_ptr<Transform<Scalar>> transform_;
  Elementwise<Scalar> features_;
  FeatureInputs<Scalar> inputs_;
  std::vector<Index> ends_;  // of the features of each pass
  ColumnLayout network_input_;
  Region context_, feature_inputs_;
  Network<Scalar> network_;

  ColumnLayout cache_;
  Region network_cache_ = cache_.take(network_.cache_columns());
  Region features_cache_ = cache_.take(features_.cache_columns());
  Region angles_ = cache_.take(inputs_.cache_columns());

  ColumnLayout scratch_;
  Region dtheta_ = scratch_.take(features_.theta_columns());
  Region transposed_ = scratch_.take(network_.scratch_columns());
  Region dnetwork_ = scratch_.take(network_.cache_columns());
};

template <class Scalar>
std::unique_ptr<Layer<Scalar>> make_autoregressive(const Json& description, const Place& place) {
  json::expect_names(description,
                     {"kind", "transform", "conditioner", "order", "degrees", "one_pass", "passes", "units"});
  const auto numbers = json::integers_member(description, "passes", 0, static_cast<Index>(place.columns.size()) - 1);
  if (numbers.size() != place.columns.size())
    throw std::invalid_argument("an autoregressive layer needs the pass of each feature");
  std::vector<std::vector<Index>> passes(static_cast<std::size_t>(*std::max_element(numbers.begin(), numbers.end())) +
                                         1);
  for (std::size_t i = 0; i < numbers.size(); ++i)
    passes[static_cast<std::size_t>(numbers[i])].push_back(place.columns[i]);
  for (const auto& pass : passes)
    if (pass.empty()) throw std::invalid_argument("an autoregressive layer has a pass without features");
  const HiddenUnits units = hidden_units(description, passes.size());
  const auto one_pass = json::string_member(description, "one_pass");
  if (one_pass != "inverse" && one_pass != "forward")
    throw std::invalid_argument("unknown direction " + json::quote(one_pass));
  const Json& conditioner = json::member(description, "conditioner");
  return std::make_unique<Autoregressive<Scalar>>(
      passes, place.domains, place.context, one_pass == "inverse" ? Direction::inverse : Direction::forward,
      transform_of<Scalar>(description), [&](NetworkPorts ports) {
        ports.bfloat16 = place.bfloat16;
        return networks<Scalar>().of(conditioner)(conditioner, ports, &units);
      });
}

}  // namespace pushforward
