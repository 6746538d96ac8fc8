// What a flow is: its base, its layers, its context network, the data side, and one vector with all parameters.
#pragma once

#include <memory>
#include <numeric>
#include <optional>

#include "pushforward/base/base.hpp"
#include "pushforward/data/data_side.hpp"
#include "pushforward/layer/layer.hpp"
#include "pushforward/network/network.hpp"

namespace pushforward {

// The parts of a flow as a description gives them.
template <class Scalar>
struct StackParts {
  Index dim, context;
  Index embedding;  // the numbers that layers read as their context: the network's outputs, or the context itself
  std::optional<Network<Scalar>> context_network;
  DataSide data_side;
  std::unique_ptr<Base<Scalar>> base;
  std::vector<std::unique_ptr<Layer<Scalar>>> layers;  // in generator order
  std::vector<std::string> names;                      // of the layers, in front of those of their parameters
  std::vector<Index> data_columns;                     // the column of the state that holds each data feature
  std::vector<Domain> latent_domains;                  // by column of the state
};

template <class Scalar>
class Stack {
 public:
  // Parameters are zero, the standardisations the identity.
  explicit Stack(StackParts<Scalar> parts)
      : parts_(std::move(parts)),
        latent_columns_(in_order(parts_.dim)),
        context_columns_(in_order(parts_.context)),
        identity_(AffineMap::identity(parts_.dim)) {
    for (std::size_t k = 0; k < parts_.layers.size(); ++k) {
      offsets_.push_back(size_of(blocks_));
      append(parts_.layers[k]->parameters(), parts_.names[k]);
      all_caches_ += parts_.layers[k]->cache_columns();
      largest_cache_ = std::max(largest_cache_, parts_.layers[k]->cache_columns());
      tile_rows_ = std::min(tile_rows_, parts_.layers[k]->tile_rows());
      map_scratch_ = std::max(map_scratch_, parts_.layers[k]->map_scratch_columns());
      scratch_ = std::max({scratch_, map_scratch_, parts_.layers[k]->scratch_columns()});
    }
    offsets_.push_back(size_of(blocks_));
    append(parts_.base->parameters(), "base");
    offsets_.push_back(size_of(blocks_));
    if (const auto* network = context_network()) {
      append(network->parameters(false), "context_network");
      scratch_ = std::max(scratch_, network->scratch_columns());
    }
    for (const auto& block : blocks_) has_bfloat16_ |= block.bfloat16;
    parameters_.setZero(size_of(blocks_));
    const auto width = static_cast<std::size_t>(context());
    set_context_standardization(std::vector<double>(width, 0.0), std::vector<double>(width, 1.0));
  }

  Index dim() const { return parts_.dim; }
  Index context() const { return parts_.context; }
  Index embedding() const { return parts_.embedding; }

  const Base<Scalar>& base() const { return *parts_.base; }
  const DataSide& data_side() const { return parts_.data_side; }
  // What reads the context in place of the layers; null if they read it themselves.
  const Network<Scalar>* context_network() const { return parts_.context_network ? &*parts_.context_network : nullptr; }
  std::size_t layer_count() const { return parts_.layers.size(); }
  const Layer<Scalar>& layer(std::size_t k) const { return *parts_.layers[k]; }
  // The i-th layer on the way through the flow.
  std::size_t layer_on_way(Direction direction, std::size_t i) const {
    return direction == Direction::forward ? i : layer_count() - 1 - i;
  }

  // The column of the state that holds each feature of the latent side and of the data side; the context's columns.
  const Index* latent_columns() const { return latent_columns_.data(); }
  const Index* data_columns() const { return parts_.data_columns.data(); }
  const Index* context_columns() const { return context_columns_.data(); }
  const std::vector<Domain>& latent_domains() const { return parts_.latent_domains; }

  // All parameters: layer by layer in generator order, then the base's, and those of the context network at the end.
  Index parameter_count() const { return parameters_.size(); }
  Scalar* parameters() { return parameters_.data(); }
  const Scalar* parameters() const { return parameters_.data(); }
  const std::vector<ParameterBlock>& parameter_blocks() const { return blocks_; }
  // Where a layer's parameters begin and end; the base's are "layer" number layer_count(), the context network's the
  // next.
  Index offset(std::size_t k) const { return offsets_[k]; }
  Index end(std::size_t k) const { return k + 1 < offsets_.size() ? offsets_[k + 1] : parameter_count(); }
  const Scalar* parameters_of(std::size_t k) const { return parameters() + offset(k); }
  const Scalar* base_parameters() const { return parameters_of(layer_count()); }
  const Scalar* context_network_parameters() const { return parameters_of(layer_count() + 1); }

  // Whether a call reads some of the parameters rounded to bfloat16.
  bool has_bfloat16() const { return has_bfloat16_; }

  // Rows of a tile.
  Index tile_rows() const { return tile_rows_; }
  // Tile columns: of all layers' caches together, of the largest, and of the largest scratch memory; of maps alone.
  Index all_caches() const { return all_caches_; }
  Index largest_cache() const { return largest_cache_; }
  Index scratch() const { return scratch_; }
  Index map_scratch() const { return map_scratch_; }

  void set_standardization(const std::vector<double>& shift, const std::vector<double>& scale,
                           const std::vector<Cells>& cells = {}) {
    parts_.data_side.set_standardization(shift, scale, cells);
  }
  void set_context_standardization(const std::vector<double>& shift, const std::vector<double>& scale) {
    AffineMap from_standard;
    set_affine_maps(shift, scale, context(), context_to_standard_, from_standard);
    context_grad_ = {std::vector<double>(scale.size(), 0.0), context_to_standard_.factor};
  }
  const AffineMap& identity() const { return identity_; }  // of dim() columns: the latent side is not standardised
  const AffineMap& context_to_standard() const { return context_to_standard_; }
  const AffineMap& context_grad() const { return context_grad_; }  // its adjoint

 private:
  static std::vector<Index> in_order(Index count) {
    std::vector<Index> columns(static_cast<std::size_t>(count));
    std::iota(columns.begin(), columns.end(), Index(0));
    return columns;
  }

  void append(std::vector<ParameterBlock> blocks, const std::string& owner) {
    for (auto& block : blocks) {
      block.name = owner + "." + block.name;
      blocks_.push_back(std::move(block));
    }
  }

  StackParts<Scalar> parts_;
  std::vector<Index> latent_columns_, context_columns_;
  std::vector<Index> offsets_;  // of each layer's parameters, of the base's and of the context network's
  std::vector<ParameterBlock> blocks_;
  bool has_bfloat16_ = false;
  Index tile_rows_ = kTileRows;
  Index all_caches_ = 0, largest_cache_ = 0, scratch_ = 0, map_scratch_ = 0;
  Eigen::Array<Scalar, Eigen::Dynamic, 1> parameters_;
  AffineMap identity_, context_to_standard_, context_grad_;
};

}  // namespace pushforward
