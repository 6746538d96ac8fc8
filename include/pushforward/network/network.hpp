// The networks that give a transform its parameters: multilayer perceptrons and residual networks, both as a list of
// stages, target = dense(activation(source)) + residual. Their layers may be masked for an autoregressive map
// (dense.hpp), group by group; those of a coupling have one group.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <stdexcept>

#include "pushforward/network/activation.hpp"
#include "pushforward/network/dense.hpp"
#include "pushforward/network/dropout.hpp"
#include "pushforward/tile/parameters.hpp"

namespace pushforward {

// What a network reads and gives, by groups.
struct NetworkPorts {
  Index inputs;
  std::vector<Index> inputs_end;   // how many inputs the hidden units of each group see
  std::vector<Index> outputs_end;  // the ends of the groups of outputs
};

template <class Scalar>
class Network {
 public:
  // hidden: for each hidden layer, the ends of the groups of its units. A network that sees no inputs is its last
  // bias: hidden layers would compute a constant from a constant.
  static Network mlp(const NetworkPorts& ports, const std::vector<std::vector<Index>>& hidden, Activation activation) {
    Network network(ports.inputs, activation, 0.0);
    std::vector<Index> ends = ports.inputs_end;
    Index source = 0, width = ports.inputs, number = 0;
    for (const auto& units : ports.inputs_end.back() > 0 ? hidden : std::vector<std::vector<Index>>()) {
      const Index target = network.add(std::to_string(number), {ends, units, width}, source, number > 0, std::nullopt);
      source = target;
      ends = units;
      width = units.back();
      ++number;
    }
    network.add_last(std::to_string(number), {ends, ports.outputs_end, width}, source, number > 0);
    return network;
  }

  // He et al. 2016 ("Identity mappings"), as in Durkan et al. 2019: a dense layer, blocks
  // h + dense(dropout(activation(dense(activation(h))))), and a dense layer.
  static Network resnet(const NetworkPorts& ports, const std::vector<Index>& hidden, Index blocks,
                        Activation activation, double dropout) {
    Network network(ports.inputs, activation, dropout);
    if (ports.inputs_end.back() == 0) {
      network.add_last("last", {ports.inputs_end, ports.outputs_end, ports.inputs}, 0, false);
      return network;
    }
    const Index width = hidden.back();
    Index state = network.add("first", {ports.inputs_end, hidden, ports.inputs}, 0, false, std::nullopt);
    for (Index block = 0; block < blocks; ++block) {
      const std::string name = "blocks." + std::to_string(block);
      const Index within = network.add(name + ".0", {hidden, hidden, width}, state, true, std::nullopt, true);
      const std::size_t branch = network.stages_.size() - 1;
      state = network.add(name + ".1", {hidden, hidden, width}, within, true, state);
      network.stages_.back().drops = dropout > 0;
      network.stages_[branch].skipped_to = state;
    }
    network.add_last("last", {hidden, ports.outputs_end, width}, state, false);
    return network;
  }

  // In the order in which they stand in the parameter vector. Hidden layers start as PyTorch's Linear does, uniform
  // within 1 / sqrt(fan-in); the last starts at zero, which makes every transform the identity.
  std::vector<ParameterBlock> parameters() const {
    std::vector<ParameterBlock> blocks;
    for (const auto& stage : stages_) {
      const bool last = &stage == &stages_.back();
      const double bound = last ? 0.0 : 1.0 / std::sqrt(static_cast<double>(stage.shape.inputs));
      blocks.push_back({stage.name + ".weight", {stage.shape.outputs(), stage.shape.inputs}, bound});
      blocks.push_back({stage.name + ".bias", {stage.shape.outputs()}, bound});
    }
    return blocks;
  }

  Index parameter_count() const { return parameter_count_; }
  Groups all_groups() const { return {0, stages_.front().shape.groups()}; }

  // What a pass keeps for its adjoint, in tile columns; the first of them hold the input on entry.
  Index cache_columns() const { return cache_columns_; }
  Index scratch_columns() const { return whole_lanes(widest_); }

  // Computes the outputs of some groups, those before them being done.
  void evaluate(Groups groups, const Scalar* parameters, const DropoutKey& dropout, Index padded, Scalar* cache,
                Scalar* output) const {
    for (std::size_t i = 0; i < stages_.size(); ++i) {
      const Stage& stage = stages_[i];
      if (stage.active && !rectified(stage)) {
        const Index first = detail::begin_of(stage.shape.inputs_end, groups.first);
        const Index count = detail::at(stage.shape.inputs_end, groups.last - 1) - first;
        Scalar* values = column(cache, stage.values + first);
        Scalar* slopes = stage.slopes ? column(cache, *stage.slopes + first) : nullptr;
        activate(activation_, padded, count, column(cache, stage.source + first), values, slopes);
        if (stage.drops && dropout.drops()) drop(dropout.part(i), dropout_, first, padded, count, values, slopes);
      }
      Scalar* target = stage.target ? column(cache, *stage.target) : output;
      const Scalar* residual = stage.residual ? column(cache, *stage.residual) : nullptr;
      Scalar* rectified = stage.rectified ? column(cache, *stage.rectified) : nullptr;
      const V leak = leak_of(activation_);
      const auto compute = [&](auto store) {
        dense(stage.shape, groups, parameters + stage.offset, padded, column(cache, stage.values), store);
      };
      // The first two are the layers of a rectified perceptron: with nothing to decide at each register.
      if (!residual && rectified == target)
        compute([=](Index at, V sum) { max(sum, sum * leak).store(target + at); });
      else if (!residual && !rectified)
        compute([=](Index at, V sum) { sum.store(target + at); });
      else
        compute([=](Index at, V sum) {
          if (residual) sum += V::load(residual + at);
          if (rectified != target) sum.store(target + at);
          if (rectified) max(sum, sum * leak).store(rectified + at);
        });
    }
  }

  // The adjoint of the whole network. doutput: the derivative by the output. The derivative by the input takes the
  // input's place in the cache, and those of the layers between that of their values. dparameters: added to unless
  // null.
  void vjp(const Scalar* parameters, Index rows, Index padded, Scalar* cache, const Scalar* doutput,
           Scalar* dparameters, Scalar* scratch) const {
    for (std::size_t i = stages_.size(); i-- > 0;) {
      if (dparameters) stage_vjp_parameters(stages_[i], rows, padded, cache, cache, doutput, dparameters, scratch);
      stage_vjp_input(stages_[i], all_groups(), parameters, padded, cache, doutput, cache);
    }
  }

  // The same group by group, from the last to the first: with the derivatives by the outputs of groups >= `group`
  // known, those by the inputs that this group is the first to see. `gradient` is laid out as the cache.
  void vjp_group(Index group, const Scalar* parameters, Index padded, const Scalar* cache, const Scalar* doutput,
                 Scalar* gradient) const {
    for (std::size_t i = stages_.size(); i-- > 0;)
      stage_vjp_input(stages_[i], {group, group + 1}, parameters, padded, cache, doutput, gradient);
  }

  // And then the derivatives by the parameters, added to dparameters.
  void vjp_parameters(Index rows, Index padded, const Scalar* cache, const Scalar* doutput, const Scalar* gradient,
                      Scalar* dparameters, Scalar* scratch) const {
    for (const Stage& stage : stages_)
      stage_vjp_parameters(stage, rows, padded, cache, gradient, doutput, dparameters, scratch);
  }

 private:
  using V = Vec<Scalar>;

  // Places are columns of the cache.
  struct Stage {
    std::string name;
    DenseShape shape;
    Index offset;                     // of its parameters
    Index source;                     // what comes in
    bool active;                      // through the activation first
    Index values;                     // what the dense layer reads: source, or its activation
    std::optional<Index> slopes;      // of the activation, where they are kept
    std::optional<Index> target;      // none: the output
    std::optional<Index> residual;    // added to the target
    std::optional<Index> rectified;   // where the target's activation goes, if the dense layer takes it at once
    std::optional<Index> skipped_to;  // where source is a residual of
    bool drops = false;
  };

  Network(Index inputs, Activation activation, double dropout)
      : activation_(activation), dropout_(dropout), cache_columns_(inputs) {}

  static Scalar* column(Scalar* cache, Index at) { return cache + at * kTileRows; }
  static const Scalar* column(const Scalar* cache, Index at) { return cache + at * kTileRows; }

  Index take(Index columns) {
    const Index place = cache_columns_;
    cache_columns_ += columns;
    return place;
  }

  // Appends a stage; source_stays says that the source is needed as it is, so that its activation needs a place of its
  // own.
  Index add(std::string name, DenseShape shape, Index source, bool active, std::optional<Index> residual,
            bool source_stays = false) {
    Stage stage = begin(std::move(name), std::move(shape), source, active, source_stays);
    stage.target = take(stage.shape.outputs());
    stage.residual = residual;
    stages_.push_back(std::move(stage));
    return *stages_.back().target;
  }

  void add_last(std::string name, DenseShape shape, Index source, bool active) {
    stages_.push_back(begin(std::move(name), std::move(shape), source, active, false));
  }

  Stage begin(std::string name, DenseShape shape, Index source, bool active, bool source_stays) {
    Stage stage{std::move(name), std::move(shape), parameter_count_, source, active, source, {}, {}, {}, {}, {}};
    const Index size = stage.shape.parameter_count();
    if (size > std::numeric_limits<Index>::max() - parameter_count_)
      throw std::invalid_argument("a network has more parameters than can be counted");
    parameter_count_ += size;
    widest_ = std::max(widest_, stage.shape.inputs);
    if (active && source_stays) stage.values = take(stage.shape.inputs);
    if (active && (keeps_slope(activation_) || dropout_ > 0)) stage.slopes = take(stage.shape.inputs);
    if (active && rectified(stage)) stages_.back().rectified = stage.values;
    return stage;
  }

  // Whether the stage before takes this one's activation. Dropout comes between the two.
  bool rectified(const Stage& stage) const { return is_rectifier(activation_) && !stage.slopes; }

  // d values = W^T d target; d source = slope * d values + d of what source was added to
  void stage_vjp_input(const Stage& stage, Groups groups, const Scalar* parameters, Index padded, const Scalar* cache,
                       const Scalar* doutput, Scalar* gradient) const {
    const Scalar* dtarget = stage.target ? column(static_cast<const Scalar*>(gradient), *stage.target) : doutput;
    Scalar* dsource = column(gradient, stage.source);
    const Scalar *slopes = nullptr, *values = nullptr;
    if (stage.slopes) {
      slopes = column(cache, *stage.slopes);
    } else if (stage.active && rectified(stage)) {
      values = column(cache, stage.values);
    } else if (stage.active) {
      // Where the values stand, they are no longer needed; or at their place in the gradient.
      Scalar* place = column(gradient, stage.values);
      const Index first = detail::begin_of(stage.shape.inputs_end, groups.first);
      const Index count = detail::at(stage.shape.inputs_end, groups.last - 1) - first;
      slopes_of(activation_, padded, count, column(cache, stage.values + first), place + first * kTileRows);
      slopes = place;
    }
    const Scalar* dsum = stage.skipped_to ? column(static_cast<const Scalar*>(gradient), *stage.skipped_to) : nullptr;
    const V leak = leak_of(activation_);
    const auto compute = [&](auto store) {
      dense_vjp_input(stage.shape, groups, parameters + stage.offset, padded, dtarget, store);
    };
    if (!slopes && !values && !dsum)
      compute([=](Index at, V sum) { sum.store(dsource + at); });
    else if (values && !dsum)
      compute([=](Index at, V sum) { V::select(V::load(values + at) > V(0), sum, sum * leak).store(dsource + at); });
    else
      compute([=](Index at, V sum) {
        if (slopes) sum = sum * V::load(slopes + at);
        if (values) sum = V::select(V::load(values + at) > V(0), sum, sum * leak);
        if (dsum) sum += V::load(dsum + at);
        sum.store(dsource + at);
      });
    // What no output sees has no derivative.
    if (groups.last == stage.shape.groups())
      for (Index input = stage.shape.inputs_end.back(); input < stage.shape.inputs; ++input)
        std::fill_n(dsource + input * kTileRows, padded, Scalar(0));
  }

  void stage_vjp_parameters(const Stage& stage, Index rows, Index padded, const Scalar* cache, const Scalar* gradient,
                            const Scalar* doutput, Scalar* dparameters, Scalar* scratch) const {
    const Scalar* dtarget = stage.target ? column(gradient, *stage.target) : doutput;
    dense_vjp_parameters(stage.shape, rows, padded, column(cache, stage.values), dtarget, scratch,
                         dparameters + stage.offset);
  }

  std::vector<Stage> stages_;
  Activation activation_;
  double dropout_;
  Index cache_columns_;
  Index parameter_count_ = 0;
  Index widest_ = 0;  // inputs of the widest layer
};

}  // namespace pushforward
