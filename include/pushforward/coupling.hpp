// A coupling layer: the kept features (and the context) go through a conditioner, whose outputs are the parameters of
// an elementwise transform that moves the others.
#pragma once

#include <algorithm>
#include <memory>

#include "pushforward/conditioner.hpp"
#include "pushforward/layer.hpp"

namespace pushforward {

template <class Scalar, class Transform>
class Coupling final : public Layer<Scalar> {
 public:
  // kept, moved: the columns of the state that hold these features.
  Coupling(std::vector<Index> kept, std::vector<Index> moved, Index context, Transform transform,
           std::unique_ptr<Conditioner<Scalar>> conditioner)
      : kept_(std::move(kept)),
        moved_(std::move(moved)),
        context_(context),
        transform_(std::move(transform)),
        conditioner_(std::move(conditioner)) {}

  std::vector<ParameterBlock> parameters() const override {
    auto blocks = conditioner_->parameters();
    for (auto& block : blocks) block.name = "conditioner." + block.name;
    return blocks;
  }

  Index cache_columns() const override { return after_column() + count(moved_); }
  Index scratch_columns() const override {
    return theta_columns() + count(kept_) + context_ + conditioner_->scratch_columns();
  }

  void map(Direction direction, const Scalar* parameters, const Tile<Scalar>& tile, Scalar* cache) const override {
    Scalar* input = cache;
    for (const Index feature : kept_) {
      std::copy_n(tile.state + feature * kTileRows, tile.padded, input);
      input += kTileRows;
    }
    for (Index i = 0; i < context_; ++i, input += kTileRows)
      std::copy_n(tile.context + i * kTileRows, tile.padded, input);
    Scalar* theta = cache + theta_column() * kTileRows;
    conditioner_->evaluate(parameters, tile.padded, cache, theta);

    Scalar* before = cache + before_column() * kTileRows;
    Scalar* after = cache + after_column() * kTileRows;
    const Index stride = transform_.parameter_count() * kTileRows;
    for (std::size_t j = 0; j < moved_.size(); ++j)
      for (Index row = 0; row < tile.padded; row += kLanes) {
        auto state = lanes(tile.state + moved_[j] * kTileRows + row);
        Scalar* at = theta + static_cast<Index>(j) * stride + row;
        lanes(before + column(j) + row) = state;
        Lanes<Scalar> log_det;
        state = direction == Direction::forward ? transform_.forward(at, state, log_det)
                                                : transform_.inverse(at, state, log_det);
        lanes(after + column(j) + row) = state;
        lanes(tile.log_det + row) += log_det.template cast<double>();
      }
  }

  void vjp(Direction direction, const Scalar* parameters, const Tile<Scalar>& tile, const Scalar* cache,
           const TileGrad<Scalar>& grad, Scalar* scratch) const override {
    const Scalar* theta = cache + theta_column() * kTileRows;
    const Scalar* before = cache + before_column() * kTileRows;
    const Scalar* after = cache + after_column() * kTileRows;
    const Scalar* z = direction == Direction::forward ? before : after;
    const Scalar* x = direction == Direction::forward ? after : before;
    Scalar* dtheta = scratch;
    const Index stride = transform_.parameter_count() * kTileRows;
    for (std::size_t j = 0; j < moved_.size(); ++j)
      for (Index row = 0; row < tile.padded; row += kLanes) {
        auto dstate = lanes(grad.state + moved_[j] * kTileRows + row);
        const Index at = static_cast<Index>(j) * stride + row;
        const Lanes<Scalar> zs = lanes(z + column(j) + row), xs = lanes(x + column(j) + row);
        const Lanes<Scalar> dlog_det = lanes(grad.log_det + row);
        dstate = direction == Direction::forward
                     ? transform_.forward_vjp(theta + at, zs, xs, dstate, dlog_det, dtheta + at)
                     : transform_.inverse_vjp(theta + at, zs, xs, dstate, dlog_det, dtheta + at);
      }

    Scalar* dinput = dtheta + theta_columns() * kTileRows;
    Scalar* rest = dinput + (count(kept_) + context_) * kTileRows;
    conditioner_->vjp(parameters, tile.rows, tile.padded, cache, dtheta, dinput, grad.parameters, rest);
    const auto add = [&](const Scalar* from, Scalar* to) {
      for (Index row = 0; row < tile.padded; row += kLanes) lanes(to + row) += lanes(from + row);
    };
    for (std::size_t i = 0; i < kept_.size(); ++i) add(dinput + column(i), grad.state + kept_[i] * kTileRows);
    if (grad.context)
      for (Index i = 0; i < context_; ++i) add(dinput + (count(kept_) + i) * kTileRows, grad.context + i * kTileRows);
  }

 private:
  static Index count(const std::vector<Index>& features) { return static_cast<Index>(features.size()); }
  static Index column(std::size_t i) { return static_cast<Index>(i) * kTileRows; }

  // The cache: what the conditioner keeps, the transform's parameters, the moved features before and after.
  Index theta_columns() const { return transform_.parameter_count() * count(moved_); }
  Index theta_column() const { return conditioner_->cache_columns(); }
  Index before_column() const { return theta_column() + theta_columns(); }
  Index after_column() const { return before_column() + count(moved_); }

  std::vector<Index> kept_;
  std::vector<Index> moved_;
  Index context_;
  Transform transform_;
  std::unique_ptr<Conditioner<Scalar>> conditioner_;
};

}  // namespace pushforward
