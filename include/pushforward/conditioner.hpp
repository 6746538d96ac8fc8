// The network of a coupling: kept features and context in, the transform's parameters out.
#pragma once

#include "pushforward/parameters.hpp"

namespace pushforward {

template <class Scalar>
class Conditioner {
 public:
  virtual ~Conditioner() = default;
  // In the order in which they stand in the parameter vector.
  virtual std::vector<ParameterBlock> parameters() const = 0;
  // What a pass keeps for its adjoint, in tile columns; the first of them hold the input on entry.
  virtual Index cache_columns() const = 0;
  virtual Index scratch_columns() const = 0;

  virtual void evaluate(const Scalar* parameters, Index padded, Scalar* cache, Scalar* output) const = 0;
  // doutput: derivative by the output, may be overwritten. dinput: written. dparameters: added to unless null.
  virtual void vjp(const Scalar* parameters, Index rows, Index padded, const Scalar* cache, Scalar* doutput,
                   Scalar* dinput, Scalar* dparameters, Scalar* scratch) const = 0;
};

}  // namespace pushforward
