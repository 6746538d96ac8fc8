// What a coupling needs of the network that computes its transform's parameters.
#pragma once

#include "pushforward/network/network.hpp"

namespace pushforward {

template <class Scalar>
class Conditioner {
 public:
  virtual ~Conditioner() = default;

  virtual std::vector<ParameterBlock> parameters() const = 0;
  // The most rows of a tile, as of a layer.
  virtual Index tile_rows() const { return kTileRows; }
  // The cache holds the input in its first columns, then what an evaluation keeps for its adjoint. Scratch is what both
  // need besides.
  virtual Index cache_columns() const = 0;
  virtual Index evaluate_scratch_columns() const = 0;
  virtual Index vjp_scratch_columns() const = 0;

  virtual void evaluate(const Scalar* parameters, const DropoutKey& dropout, Index padded, Columns<Scalar> cache,
                        Columns<Scalar> scratch, Columns<Scalar> output) const = 0;
  // The adjoint. doutput: the derivative by the output. The derivative by the input overwrites the input. dparameters:
  // each is added to once; null if not wanted.
  virtual void vjp(const Scalar* parameters, const DropoutKey& dropout, Index rows, Index padded, Columns<Scalar> cache,
                   Columns<const Scalar> doutput, Scalar* dparameters, Columns<Scalar> scratch) const = 0;
};

template <class Scalar>
class DenseConditioner final : public Conditioner<Scalar> {
 public:
  explicit DenseConditioner(Network<Scalar> network) : network_(std::move(network)) {}

  std::vector<ParameterBlock> parameters() const override { return network_.parameters(); }
  Index cache_columns() const override { return network_.cache_columns(); }
  Index evaluate_scratch_columns() const override { return 0; }
  Index vjp_scratch_columns() const override { return network_.scratch_columns(); }

  void evaluate(const Scalar* parameters, const DropoutKey& dropout, Index padded, Columns<Scalar> cache,
                Columns<Scalar>, Columns<Scalar> output) const override {
    network_.evaluate(network_.all_groups(), parameters, dropout, padded, cache, output);
  }

  void vjp(const Scalar* parameters, const DropoutKey&, Index rows, Index padded, Columns<Scalar> cache,
           Columns<const Scalar> doutput, Scalar* dparameters, Columns<Scalar> scratch) const override {
    network_.vjp(parameters, rows, padded, cache, doutput, dparameters, scratch.data());
  }

 private:
  Network<Scalar> network_;
};

}  // namespace pushforward
