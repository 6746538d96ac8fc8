// A network that keeps its input alone: its adjoint evaluates it once more. That bounds the memory of deep flows of
// large images, at a third more arithmetic.
#pragma once

#include <algorithm>
#include <memory>

#include "pushforward/network/conditioner.hpp"

namespace pushforward {

template <class Scalar>
class Recomputed final : public Conditioner<Scalar> {
 public:
  // inputs, outputs: columns of the network's input, with the context, and of its output.
  Recomputed(std::unique_ptr<Conditioner<Scalar>> network, Index inputs, Index outputs)
      : network_(std::move(network)), inputs_(inputs), outputs_(outputs) {}

  std::vector<ParameterBlock> parameters() const override { return network_->parameters(); }
  Index tile_rows() const override { return network_->tile_rows(); }
  Index cache_columns() const override { return inputs_; }
  Index evaluate_scratch_columns() const override { return kept_.end() + network_->evaluate_scratch_columns(); }
  Index vjp_scratch_columns() const override {
    return std::max(evaluate_scratch_columns(), kept_.end() + network_->vjp_scratch_columns()) + outputs_;
  }

  void evaluate(const Scalar* parameters, const DropoutKey& dropout, Index padded, Columns<Scalar> cache,
                Columns<Scalar> scratch, Columns<Scalar> output) const override {
    copy(padded, cache, scratch);
    network_->evaluate(parameters, dropout, padded, scratch, scratch.from(kept_.end()), output);
  }

  void vjp(const Scalar* parameters, const DropoutKey& dropout, Index rows, Index padded, Columns<Scalar> cache,
           Columns<const Scalar> doutput, Scalar* dparameters, Columns<Scalar> scratch) const override {
    evaluate(parameters, dropout, padded, cache, scratch, scratch.from(vjp_scratch_columns() - outputs_));
    network_->vjp(parameters, dropout, rows, padded, scratch, doutput, dparameters, scratch.from(kept_.end()));
    copy(padded, scratch, cache);
  }

 private:
  void copy(Index padded, Columns<const Scalar> from, Columns<Scalar> to) const {
    for (Index i = 0; i < inputs_; ++i) std::copy_n(from[i], padded, to[i]);
  }

  std::unique_ptr<Conditioner<Scalar>> network_;
  Index inputs_, outputs_;
  Region kept_{0, network_->cache_columns()};  // in the scratch: what the network keeps
};

}  // namespace pushforward
