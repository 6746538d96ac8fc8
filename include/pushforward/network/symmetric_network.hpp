// A convolutional network for couplings that commute with the sign of their features (docs/derivations.md, section 19):
// some outputs are odd functions of the input, the others even ones. Hidden layers have the activation tanh and no
// bias. Odd outputs are a convolution of the last hidden layer, even ones a convolution of its squares, with a bias.
#pragma once

#include <cmath>
#include <memory>

#include "pushforward/network/activation.hpp"
#include "pushforward/network/conditioner.hpp"
#include "pushforward/network/image_ports.hpp"

namespace pushforward {

template <class Scalar>
class SymmetricNetwork final : public Conditioner<Scalar> {
 public:
  // kernels: of each hidden layer, at least one, and of the last convolutions. odd: of each output of a pixel.
  SymmetricNetwork(const ImagePorts& ports, Index hidden, const std::vector<Index>& kernels, Padding padding,
                   const std::vector<bool>& odd)
      : outputs_(ports.output_channels) {
    Region source = layout_.take(ports.inputs.count() * ports.input_channels);
    const Sites all = Sites::all(ports.inputs.height, ports.inputs.width);
    for (std::size_t i = 0; i + 1 < kernels.size(); ++i) {
      const Convolution shape(i == 0 ? ports.inputs : all, all, i == 0 ? ports.input_channels : hidden, hidden,
                              kernels[i], padding);
      const Region target = layout_.take(shape.output_columns());
      hidden_.push_back({shape, parameter_count_, source, target});
      take_memory(shape);
      source = target;
    }
    const bool has_even = std::find(odd.begin(), odd.end(), false) != odd.end();
    squares_ = layout_.take(has_even ? source.count : 0);
    for (const bool is_odd : {true, false}) {
      std::vector<Index> channels;
      for (std::size_t i = 0; i < odd.size(); ++i)
        if (odd[i] == is_odd) channels.push_back(static_cast<Index>(i));
      if (channels.empty()) continue;
      const Convolution shape(all, ports.outputs, hidden, static_cast<Index>(channels.size()), kernels.back(), padding);
      heads_.push_back({is_odd, shape, parameter_count_, is_odd ? source : squares_, std::move(channels)});
      take_memory(shape);
      if (!is_odd) parameter_count_ += shape.outputs();
    }
  }

  std::vector<ParameterBlock> parameters() const override {
    std::vector<ParameterBlock> blocks;
    const auto add = [&](const std::string& name, const Convolution& shape, double bound) {
      blocks.push_back({name, {shape.outputs(), shape.kernel(), shape.kernel(), shape.inputs()}, bound});
    };
    for (std::size_t i = 0; i < hidden_.size(); ++i)
      add(std::to_string(i) + ".weight", hidden_[i].shape,
          1.0 / std::sqrt(static_cast<double>(hidden_[i].shape.fan_in())));
    for (const Head& head : heads_) {
      add(head.is_odd ? "odd.weight" : "even.weight", head.shape, 0.0);
      if (!head.is_odd) blocks.push_back({"even.bias", {head.shape.outputs()}, 0.0});
    }
    return blocks;
  }

  Index tile_rows() const override { return kConvolutionRows; }
  Index cache_columns() const override { return layout_.count(); }
  Index evaluate_scratch_columns() const override { return weight_columns_; }
  Index vjp_scratch_columns() const override { return transposed_ + widest_head_; }

  void evaluate(const Scalar* parameters, const DropoutKey&, Index padded, Columns<Scalar> cache,
                Columns<Scalar> scratch, Columns<Scalar> output) const override {
    const auto no_start = [](Index) { return Scalar(0); };
    for (const Hidden& layer : hidden_) {
      const auto target = cache[layer.target];
      convolve<Scalar>(layer.shape, outputs_together(layer.shape, parameters + layer.offset, scratch.data()), padded,
                       cache[layer.source], no_start,
                       [=, outputs = layer.shape.outputs()](Index site, Index channel, Index row, V sum) {
                         sum.store(target[site * outputs + channel] + row);
                       });
      activate<Scalar>(Activation::tanh, padded, layer.target.count, target, target, Columns<Scalar>());
    }
    const auto last = cache[hidden_.back().target], squares = cache[squares_];
    for_each_lanes(padded, squares_.count,
                   [&](Index column, Index row) { lanes(squares[column] + row) = lanes(last[column] + row).square(); });
    for (const Head& head : heads_) {
      const Scalar* bias = head.is_odd ? nullptr : parameters + head.bias_offset();
      convolve<Scalar>(
          head.shape, outputs_together(head.shape, parameters + head.offset, scratch.data()), padded,
          cache[head.source], [=](Index channel) { return bias ? bias[channel] : Scalar(0); },
          [=, &head](Index site, Index channel, Index row, V sum) {
            sum.store(output[site * outputs_ + head.channels[static_cast<std::size_t>(channel)]] + row);
          });
    }
  }

  // With h the last hidden layer: dh = W_odd^T dodd + 2 h W_even^T deven, and du = (1 - h^2) dh for h = tanh(u).
  void vjp(const Scalar* parameters, const DropoutKey&, Index rows, Index padded, Columns<Scalar> cache,
           Columns<const Scalar> doutput, Scalar* dparameters, Columns<Scalar> scratch) const override {
    const auto last = cache[hidden_.back().target], squares = cache[squares_];
    const auto dhead = scratch.from(transposed_);
    // The even head comes last, so that it is here first: its part of dh takes the place of the squares.
    bool has_even = false;
    for (std::size_t i = heads_.size(); i-- > 0;) {
      const Head& head = heads_[i];
      gather(head, padded, doutput, dhead);
      if (dparameters) {
        add_weights(head.shape, rows, padded, cache[head.source], dhead, scratch, dparameters + head.offset);
        if (!head.is_odd)
          add_site_sums<Scalar>(padded, head.shape.output_sites(), head.shape.outputs(), dhead,
                                dparameters + head.bias_offset());
      }
      const bool is_last = i == 0;
      const auto target = is_last ? last : squares;
      const bool adds = is_last && has_even && head.is_odd;
      const V twice = 2;
      convolve_vjp_input<Scalar>(head.shape, parameters + head.offset, padded, dhead,
                                 [=, &head](Index site, Index channel, Index row, V sum) {
                                   const Index column = site * head.shape.inputs() + channel;
                                   const V h = V::load(last[column] + row);
                                   if (!head.is_odd) sum = sum * twice * h;
                                   if (adds) sum += V::load(squares[column] + row);
                                   if (is_last) sum = sum * (V(1) - h * h);
                                   sum.store(target[column] + row);
                                 });
      has_even |= !head.is_odd;
    }
    for (std::size_t i = hidden_.size(); i-- > 0;) {
      const Hidden& layer = hidden_[i];
      const Columns<const Scalar> dtarget = cache[layer.target];
      if (dparameters)
        add_weights(layer.shape, rows, padded, cache[layer.source], dtarget, scratch, dparameters + layer.offset);
      const auto dsource = cache[layer.source];
      convolve_vjp_input<Scalar>(layer.shape, parameters + layer.offset, padded, dtarget,
                                 [=, inputs = layer.shape.inputs()](Index site, Index channel, Index row, V sum) {
                                   Scalar* at = dsource[site * inputs + channel] + row;
                                   const V value = V::load(at);
                                   (i > 0 ? sum * (V(1) - value * value) : sum).store(at);
                                 });
    }
  }

 private:
  using V = Vec<Scalar>;

  // Regions are those of the cache.
  struct Hidden {
    Convolution shape;
    Index offset;  // of its weights
    Region source, target;
  };
  struct Head {
    bool is_odd;
    Convolution shape;
    Index offset;
    Region source;
    std::vector<Index> channels;  // of the output

    Index bias_offset() const { return offset + shape.outputs() * shape.fan_in(); }
  };

  void take_memory(const Convolution& shape) {
    parameter_count_ += shape.outputs() * shape.fan_in();
    weight_columns_ = std::max(weight_columns_, (shape.outputs() * shape.fan_in() + kTileRows - 1) / kTileRows);
    transposed_ = std::max(transposed_, WeightGradient<Scalar>(shape).scratch_columns());
    widest_head_ = std::max(widest_head_, shape.output_columns());
  }

  void gather(const Head& head, Index padded, Columns<const Scalar> doutput, Columns<Scalar> to) const {
    Index column = 0;
    for (Index site = 0; site < head.shape.output_sites(); ++site)
      for (const Index channel : head.channels) std::copy_n(doutput[site * outputs_ + channel], padded, to[column++]);
  }

  static void add_weights(const Convolution& shape, Index rows, Index padded, Columns<const Scalar> x,
                          Columns<const Scalar> dy, Columns<Scalar> scratch, Scalar* dweight) {
    WeightGradient<Scalar>(shape).add(rows, padded, x, dy, scratch.data(), dweight);
  }

  Index outputs_;  // channels
  std::vector<Hidden> hidden_;
  std::vector<Head> heads_;  // the odd one first
  ColumnLayout layout_;      // of the cache
  Region squares_;
  Index parameter_count_ = 0;
  Index weight_columns_ = 0, transposed_ = 0, widest_head_ = 0;  // columns of scratch
};

}  // namespace pushforward
