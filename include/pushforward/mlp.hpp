// Multilayer perceptron: dense layers with an activation between them, none after the last.
#pragma once

#include <algorithm>
#include <cmath>

#include "pushforward/activation.hpp"
#include "pushforward/conditioner.hpp"
#include "pushforward/dense.hpp"

namespace pushforward {

template <class Scalar>
class Mlp final : public Conditioner<Scalar> {
 public:
  // A network without inputs is its last bias: hidden layers would compute a constant from a constant.
  Mlp(Index inputs, const std::vector<Index>& hidden, Index outputs, Activation activation) : activation_(activation) {
    Index width = inputs;
    if (inputs > 0)
      for (const Index next : hidden) {
        layers_.push_back({width, next});
        width = next;
      }
    layers_.push_back({width, outputs});
    cache_columns_ = inputs;
    for (std::size_t i = 0; i + 1 < layers_.size(); ++i) cache_columns_ += kept_per_unit() * layers_[i].outputs;
    for (const auto& layer : layers_) widest_ = std::max(widest_, layer.inputs);
  }

  std::vector<ParameterBlock> parameters() const override {
    std::vector<ParameterBlock> blocks;
    for (std::size_t i = 0; i < layers_.size(); ++i) {
      // Hidden layers start as PyTorch's Linear does, uniform within 1 / sqrt(fan-in); the last starts at zero, which
      // makes every transform the identity.
      const bool last = i + 1 == layers_.size();
      const double bound = last ? 0.0 : 1.0 / std::sqrt(static_cast<double>(layers_[i].inputs));
      const std::string name = std::to_string(i);
      blocks.push_back({name + ".weight", {layers_[i].outputs, layers_[i].inputs}, bound});
      blocks.push_back({name + ".bias", {layers_[i].outputs}, bound});
    }
    return blocks;
  }

  Index cache_columns() const override { return cache_columns_; }
  // Two gradients of the widest hidden layer and one transposed tile of it.
  Index scratch_columns() const override { return 2 * widest_ + whole_lanes(widest_); }

  void evaluate(const Scalar* parameters, Index padded, Scalar* cache, Scalar* output) const override {
    const Scalar* x = cache;
    Scalar* next = cache + layers_.front().inputs * kTileRows;
    for (std::size_t i = 0; i < layers_.size(); ++i) {
      const bool last = i + 1 == layers_.size();
      Scalar* y = last ? output : next;
      dense(layers_[i], parameters, padded, x, y);
      if (!last) activate(activation_, padded, layers_[i].outputs, y, y + layers_[i].outputs * kTileRows);
      parameters += layers_[i].parameter_count();
      x = y;
      next += kept_per_unit() * layers_[i].outputs * kTileRows;
    }
  }

  void vjp(const Scalar* parameters, Index rows, Index padded, const Scalar* cache, Scalar* doutput, Scalar* dinput,
           Scalar* dparameters, Scalar* scratch) const override {
    Scalar* gradients[2] = {scratch, scratch + widest_ * kTileRows};
    Scalar* transposed = scratch + 2 * widest_ * kTileRows;
    Index offset = 0;
    for (const auto& layer : layers_) offset += layer.parameter_count();
    const Scalar* end = cache + cache_columns_ * kTileRows;  // of what the layers below keep
    Scalar* dy = doutput;
    for (std::size_t i = layers_.size(); i-- > 0;) {
      const auto& layer = layers_[i];
      offset -= layer.parameter_count();
      const Scalar* x = i == 0 ? cache : end - kept_per_unit() * layer.inputs * kTileRows;
      if (dparameters) dense_vjp_parameters(layer, rows, padded, x, dy, transposed, dparameters + offset);
      Scalar* dx = i == 0 ? dinput : gradients[i % 2];
      dense_vjp_input(layer, parameters + offset, padded, dy, dx);
      if (i > 0) activation_vjp(activation_, padded, layer.inputs, x, x + layer.inputs * kTileRows, dx);
      end = x;
      dy = dx;
    }
  }

 private:
  Index kept_per_unit() const { return keeps_slope(activation_) ? 2 : 1; }

  std::vector<DenseShape<Scalar>> layers_;
  Activation activation_;
  Index cache_columns_ = 0;
  Index widest_ = 0;  // inputs of the widest layer
};

}  // namespace pushforward
