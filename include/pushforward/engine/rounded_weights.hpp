// The parameters as the layers of a call read them: the weights of networks in bfloat16 are rounded once for all tiles.
#pragma once

#include "pushforward/engine/stack.hpp"
#include "pushforward/threads/arena.hpp"
#include "pushforward/tile/bfloat16.hpp"

namespace pushforward {

template <class Scalar>
class RoundedWeights {
 public:
  // Without networks in bfloat16 the parameters are the flow's own.
  explicit RoundedWeights(const Stack<Scalar>& stack) : rounds_(stack.has_bfloat16()), parameters_(stack.parameters()) {
    if (!rounds_) return;
    kept().swap(memory_);
    auto* to =
        reinterpret_cast<Scalar*>(memory_.reserve(static_cast<std::size_t>(stack.parameter_count()) * sizeof(Scalar)));
    const Scalar* from = parameters_;
    parameters_ = to;
    for (const auto& block : stack.parameter_blocks()) {
      Index size = 1;
      for (const Index extent : block.shape) size *= extent;
      if (block.bfloat16)
        bfloat16::round(from, size, reinterpret_cast<float*>(to));
      else
        std::copy_n(from, size, to);
      from += size;
      to += size;
    }
  }
  RoundedWeights(const RoundedWeights&) = delete;
  RoundedWeights& operator=(const RoundedWeights&) = delete;
  ~RoundedWeights() {
    if (rounds_) kept().swap(memory_);
  }

  const Scalar* parameters() const { return parameters_; }

 private:
  // The calling thread keeps the memory for its next call. A call in the middle of another finds none, and takes its
  // own.
  static Arena& kept() {
    thread_local Arena arena;
    return arena;
  }

  bool rounds_;
  Arena memory_;
  const Scalar* parameters_;
};

}  // namespace pushforward
