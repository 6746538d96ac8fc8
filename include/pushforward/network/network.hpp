// The networks that compute a transform's parameters: multilayer perceptrons and residual networks, both as a list of
// stages, target = dense(activation(source)) + residual. For an autoregressive map their layers are masked and come in
// groups (dense.hpp); in a coupling they have one group.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <stdexcept>

#include "pushforward/network/activation.hpp"
#include "pushforward/network/dense.hpp"
#include "pushforward/network/dense_bfloat16.hpp"
#include "pushforward/network/dropout.hpp"
#include "pushforward/tile/parameters.hpp"

namespace pushforward {

// The sizes of a network's input and output, by group, and the precision of its products.
struct NetworkPorts {
  Index inputs;
  std::vector<Index> inputs_end;   // how many inputs the hidden units of each group see
  std::vector<Index> outputs_end;  // the ends of the groups of outputs
  bool bfloat16 = false;           // whether products are computed in bfloat16
};

template <class Scalar>
class Network {
 public:
  // hidden: for each hidden layer, the ends of the groups of its units. A network without inputs has its last layer
  // only, of which the bias counts: hidden layers would compute a constant from a constant.
  static Network mlp(const NetworkPorts& ports, const std::vector<std::vector<Index>>& hidden, Activation activation) {
    Network network(ports, activation, 0.0);
    std::vector<Index> ends = ports.inputs_end;
    Region source = network.input_;
    Index width = ports.inputs, number = 0;
    for (const auto& units : ports.inputs_end.back() > 0 ? hidden : std::vector<std::vector<Index>>()) {
      const Region target = network.add(std::to_string(number), {ends, units, width}, source, number > 0, std::nullopt);
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
    Network network(ports, activation, dropout);
    if (ports.inputs_end.back() == 0) {
      network.add_last("last", {ports.inputs_end, ports.outputs_end, ports.inputs}, network.input_, false);
      return network;
    }
    const Index width = hidden.back();
    Region stream = network.add("first", {ports.inputs_end, hidden, ports.inputs}, network.input_, false, std::nullopt);
    for (Index block = 0; block < blocks; ++block) {
      const std::string name = "blocks." + std::to_string(block);
      const Region within = network.add(name + ".0", {hidden, hidden, width}, stream, true, std::nullopt, true);
      const std::size_t branch = network.stages_.size() - 1;
      stream = network.add(name + ".1", {hidden, hidden, width}, within, true, stream);
      network.stages_.back().drops = dropout > 0;
      network.stages_[branch].skipped_to = stream;
    }
    network.add_last("last", {hidden, ports.outputs_end, width}, stream, false);
    return network;
  }

  // In the order of the parameter vector. Hidden layers start as PyTorch's Linear does, uniform within
  // 1 / sqrt(fan-in). So does the last layer, unless it starts at zero, which makes every transform the identity.
  std::vector<ParameterBlock> parameters(bool starts_at_zero = true) const {
    std::vector<ParameterBlock> blocks;
    for (const auto& stage : stages_) {
      const bool is_zero = starts_at_zero && &stage == &stages_.back();
      const double bound = is_zero ? 0.0 : 1.0 / std::sqrt(static_cast<double>(stage.shape.inputs));
      blocks.push_back({stage.name + ".weight", {stage.shape.outputs(), stage.shape.inputs}, bound, bfloat16_});
      blocks.push_back({stage.name + ".bias", {stage.shape.outputs()}, bound});
    }
    return blocks;
  }

  Index parameter_count() const { return parameter_count_; }
  Groups all_groups() const { return {0, stages_.front().shape.groups()}; }

  // The cache holds the input in its first columns, then what an evaluation keeps for its adjoint.
  Index cache_columns() const { return layout_.count(); }
  Index scratch_columns() const { return whole_lanes(widest_); }

  // Computes the outputs of some groups. All groups before them must have been computed. In bfloat16, the weights among
  // the parameters of this and of the adjoints are rounded (see bfloat16::weights).
  void evaluate(Groups groups, const Scalar* parameters, const DropoutKey& dropout, Index padded, Columns<Scalar> cache,
                Columns<Scalar> output) const {
    for (std::size_t i = 0; i < stages_.size(); ++i) {
      const Stage& stage = stages_[i];
      if (stage.active && !rectified(stage)) {
        const Index first = detail::begin_of(stage.shape.inputs_end, groups.first);
        const Index count = detail::at(stage.shape.inputs_end, groups.last - 1) - first;
        const auto values = cache[stage.values].from(first);
        const auto slopes = stage.slopes ? cache[*stage.slopes].from(first) : Columns<Scalar>();
        activate<Scalar>(activation_, padded, count, cache[stage.source].from(first), values, slopes);
        if (stage.drops && dropout.drops()) drop(dropout.part(i), dropout_, first, padded, count, values, slopes);
      }
      const auto target = stage.target ? cache[*stage.target] : output;
      const auto residual = stage.residual ? cache[*stage.residual] : Columns<Scalar>();
      const auto rectified = stage.rectified ? cache[*stage.rectified] : Columns<Scalar>();
      const bool in_place = rectified.data() == target.data();
      const V leak = leak_of(activation_);
      const auto compute = [&](auto store) {
        dense<Scalar>(stage.shape, groups, parameters + stage.offset, padded, cache[stage.values], store);
      };
      const auto store_any = [=](Index unit, Index row, V sum) {
        if (residual) sum += V::load(residual[unit] + row);
        if (!in_place) sum.store(target[unit] + row);
        if (rectified) max(sum, sum * leak).store(rectified[unit] + row);
      };
      // The second case and the third are the layers of a rectified perceptron: they decide nothing at each register.
      if (stage.rounded) {
        const auto x = bfloat16::floats(cache[*stage.rounded]);
        round(stage.shape.inputs_end, groups, padded, cache[stage.values], x);
        bfloat16::dense<Scalar>(stage.shape, groups, parameters + stage.offset, padded, x, store_any);
      } else if (!residual && in_place) {
        compute([=](Index unit, Index row, V sum) { max(sum, sum * leak).store(target[unit] + row); });
      } else if (!residual && !rectified) {
        compute([=](Index unit, Index row, V sum) { sum.store(target[unit] + row); });
      } else {
        compute(store_any);
      }
    }
  }

  // The adjoint of the whole network. doutput: the derivative by the output. In the cache, the derivatives by the input
  // and by the layers between overwrite their values; those by the input only if they are wanted. dparameters: added
  // to; null if not wanted. transposed: scratch of scratch_columns() tile columns.
  void vjp(const Scalar* parameters, Index rows, Index padded, Columns<Scalar> cache, Columns<const Scalar> doutput,
           Scalar* dparameters, Scalar* transposed, bool wants_input = true) const {
    for (std::size_t i = stages_.size(); i-- > 0;) {
      round_target(stages_[i], all_groups(), padded, doutput, cache);
      if (dparameters) stage_vjp_parameters(stages_[i], rows, padded, cache, cache, doutput, dparameters, transposed);
      if (i > 0 || wants_input) stage_vjp_input(stages_[i], all_groups(), parameters, padded, cache, doutput, cache);
    }
  }

  // The adjoint group by group, from the last to the first. The derivatives by the outputs of groups >= `group` must be
  // known; those by the inputs that this group is the first to see are computed. `gradient` has the layout of the
  // cache.
  void vjp_group(Index group, const Scalar* parameters, Index padded, Columns<const Scalar> cache,
                 Columns<const Scalar> doutput, Columns<Scalar> gradient) const {
    for (std::size_t i = stages_.size(); i-- > 0;) {
      round_target(stages_[i], {group, group + 1}, padded, doutput, gradient);
      stage_vjp_input(stages_[i], {group, group + 1}, parameters, padded, cache, doutput, gradient);
    }
  }

  // After vjp_group of all groups: adds the derivatives by the parameters to dparameters.
  void vjp_parameters(Index rows, Index padded, Columns<const Scalar> cache, Columns<const Scalar> doutput,
                      Columns<const Scalar> gradient, Scalar* dparameters, Scalar* transposed) const {
    for (const Stage& stage : stages_)
      stage_vjp_parameters(stage, rows, padded, cache, gradient, doutput, dparameters, transposed);
  }

 private:
  using V = Vec<Scalar>;

  // Regions are those of the cache.
  struct Stage {
    std::string name;
    DenseShape shape;
    Index offset;                      // of its parameters
    Region source;                     // its input
    bool active;                       // whether the input goes through the activation first
    Region values;                     // what the dense layer reads: source, or its activation
    std::optional<Region> slopes;      // of the activation, if they are kept
    std::optional<Region> target;      // its result; none: the network's output
    std::optional<Region> residual;    // added to the result
    std::optional<Region> rectified;   // the activation of the result, if the dense layer computes it
    std::optional<Region> skipped_to;  // the later result that source is the residual of
    bool drops = false;                // whether dropout follows the activation
    // In bfloat16, as float32: the values, and the derivatives by the result. The latter take the place of the next
    // stage's values.
    std::optional<Region> rounded = std::nullopt, rounded_target = std::nullopt;
  };

  Network(const NetworkPorts& ports, Activation activation, double dropout)
      : activation_(activation), dropout_(dropout), bfloat16_(ports.bfloat16), input_(layout_.take(ports.inputs)) {}

  // Appends a stage and returns its target. keeps_source: the source is read again later, so that its activation must
  // not overwrite it.
  Region add(std::string name, DenseShape shape, Region source, bool active, std::optional<Region> residual,
             bool keeps_source = false) {
    Stage stage = begin(std::move(name), std::move(shape), source, active, keeps_source);
    stage.target = layout_.take(stage.shape.outputs());
    stage.residual = residual;
    stages_.push_back(std::move(stage));
    return *stages_.back().target;
  }

  void add_last(std::string name, DenseShape shape, Region source, bool active) {
    stages_.push_back(begin(std::move(name), std::move(shape), source, active, false));
    if (bfloat16_) stages_.back().rounded_target = layout_.take(stages_.back().shape.outputs());
  }

  Stage begin(std::string name, DenseShape shape, Region source, bool active, bool keeps_source) {
    Stage stage{std::move(name), std::move(shape), parameter_count_, source, active, source, {}, {}, {}, {}, {}};
    const Index size = stage.shape.parameter_count();
    if (size > std::numeric_limits<Index>::max() - parameter_count_)
      throw std::invalid_argument("a network has more parameters than can be counted");
    parameter_count_ += size;
    widest_ = std::max(widest_, stage.shape.inputs);
    if (active && keeps_source) stage.values = layout_.take(stage.shape.inputs);
    if (active && (keeps_slope(activation_) || dropout_ > 0)) stage.slopes = layout_.take(stage.shape.inputs);
    if (active && rectified(stage)) stages_.back().rectified = stage.values;
    if (bfloat16_) {
      stage.rounded = layout_.take(stage.shape.inputs);
      if (!stages_.empty()) stages_.back().rounded_target = stage.rounded;
    }
    return stage;
  }

  // Whether the stage before computes this one's activation. Not with dropout, which comes between the two.
  bool rectified(const Stage& stage) const { return is_rectifier(activation_) && !stage.slopes; }

  // Rounds the columns of some groups, of which the ends are given.
  static void round(const std::vector<Index>& ends, Groups groups, Index padded, Columns<const Scalar> from,
                    Columns<float> to) {
    for (Index column = detail::begin_of(ends, groups.first); column < detail::at(ends, groups.last - 1); ++column)
      bfloat16::round(from[column], padded, to[column]);
  }

  // In bfloat16: rounds the derivatives by a stage's result.
  static void round_target(const Stage& stage, Groups groups, Index padded, Columns<const Scalar> doutput,
                           Columns<Scalar> gradient) {
    if (!stage.rounded_target) return;
    const Columns<const Scalar> dtarget = stage.target ? gradient[*stage.target] : doutput;
    round(stage.shape.outputs_end, groups, padded, dtarget, bfloat16::floats(gradient[*stage.rounded_target]));
  }

  // d values = W^T d target, and d source = slope * d values + the derivative by what source was added to.
  void stage_vjp_input(const Stage& stage, Groups groups, const Scalar* parameters, Index padded,
                       Columns<const Scalar> cache, Columns<const Scalar> doutput, Columns<Scalar> gradient) const {
    const Columns<const Scalar> dtarget = stage.target ? gradient[*stage.target] : doutput;
    const Columns<Scalar> dsource = gradient[stage.source];
    Columns<const Scalar> slopes, values;
    if (stage.slopes) {
      slopes = cache[*stage.slopes];
    } else if (stage.active && rectified(stage)) {
      values = cache[stage.values];
    } else if (stage.active) {
      // In the region of the values, which are not needed any more (or, group by group, are in another array).
      const auto computed = gradient[stage.values];
      const Index first = detail::begin_of(stage.shape.inputs_end, groups.first);
      const Index count = detail::at(stage.shape.inputs_end, groups.last - 1) - first;
      slopes_of<Scalar>(activation_, padded, count, cache[stage.values].from(first), computed.from(first));
      slopes = computed;
    }
    const auto dsum = stage.skipped_to ? gradient[*stage.skipped_to] : Columns<Scalar>();
    const V leak = leak_of(activation_);
    const auto compute = [&](auto store) {
      dense_vjp_input<Scalar>(stage.shape, groups, parameters + stage.offset, padded, dtarget, store);
    };
    const auto store_any = [=](Index unit, Index row, V sum) {
      if (slopes) sum = sum * V::load(slopes[unit] + row);
      if (values) sum = V::select(V::load(values[unit] + row) > V(0), sum, sum * leak);
      if (dsum) sum += V::load(dsum[unit] + row);
      sum.store(dsource[unit] + row);
    };
    if (stage.rounded_target)
      bfloat16::dense_vjp_input<Scalar>(stage.shape, groups, parameters + stage.offset, padded,
                                        bfloat16::floats(gradient[*stage.rounded_target]), store_any);
    else if (!slopes && !values && !dsum)
      compute([=](Index unit, Index row, V sum) { sum.store(dsource[unit] + row); });
    else if (values && !dsum)
      compute([=](Index unit, Index row, V sum) {
        V::select(V::load(values[unit] + row) > V(0), sum, sum * leak).store(dsource[unit] + row);
      });
    else
      compute(store_any);
    // Inputs that no output sees have derivative 0.
    if (groups.last == stage.shape.groups())
      for (Index input = stage.shape.inputs_end.back(); input < stage.shape.inputs; ++input)
        std::fill_n(dsource[input], padded, Scalar(0));
  }

  void stage_vjp_parameters(const Stage& stage, Index rows, Index padded, Columns<const Scalar> cache,
                            Columns<const Scalar> gradient, Columns<const Scalar> doutput, Scalar* dparameters,
                            Scalar* transposed) const {
    const auto dtarget = stage.target ? gradient[*stage.target] : doutput;
    if (stage.rounded)
      bfloat16::dense_vjp_parameters<Scalar>(stage.shape, rows, padded, bfloat16::floats(cache[*stage.rounded]),
                                             bfloat16::floats(gradient[*stage.rounded_target]), dtarget, transposed,
                                             dparameters + stage.offset);
    else
      dense_vjp_parameters<Scalar>(stage.shape, rows, padded, cache[stage.values], dtarget, transposed,
                                   dparameters + stage.offset);
  }

  std::vector<Stage> stages_;
  Activation activation_;
  double dropout_;
  bool bfloat16_;
  ColumnLayout layout_;  // of the cache
  Region input_;
  Index parameter_count_ = 0;
  Index widest_ = 0;  // inputs of the widest layer
};

}  // namespace pushforward
