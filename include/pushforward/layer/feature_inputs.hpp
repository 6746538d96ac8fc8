// How a network reads features: as they are, except that an angle is read as its cosine and sine, which have no jump
// between -pi and pi.
#pragma once

#include <algorithm>
#include <vector>

#include "pushforward/layer/features.hpp"
#include "pushforward/tile/columns.hpp"
#include "pushforward/tile/domain.hpp"

namespace pushforward {

template <class Scalar>
class FeatureInputs {
 public:
  // columns: of the state; domains: by column of the state.
  FeatureInputs(std::vector<Index> columns, const std::vector<Domain>& domains) : columns_(std::move(columns)) {
    for (const Index column : columns_) {
      const bool circular = domains[static_cast<std::size_t>(column)] == Domain::circle;
      inputs_.push_back(inputs_layout_.take(circular ? 2 : 1));
      angles_.push_back(cache_.take(circular ? 1 : 0));
    }
  }

  Features all() const { return {0, static_cast<Index>(columns_.size())}; }
  // The number of inputs of all features, and of the first `count` features.
  Index input_columns() const { return inputs_layout_.count(); }
  Index input_columns(Index count) const { return count > 0 ? inputs_[static_cast<std::size_t>(count - 1)].end() : 0; }
  // The cache holds the angles.
  Index cache_columns() const { return cache_.count(); }

  void read(Features features, Index padded, Columns<const Scalar> state, Columns<Scalar> inputs,
            Columns<Scalar> cache) const {
    for (Index j = features.first; j < features.last; ++j) {
      const auto i = static_cast<std::size_t>(j);
      const Scalar* value = state[columns_[i]];
      const Columns<Scalar> to = inputs[inputs_[i]];
      if (!is_angle(i)) {
        std::copy_n(value, padded, to[0]);
        continue;
      }
      std::copy_n(value, padded, cache[angles_[i]][0]);
      for (Index row = 0; row < padded; row += kLanes) {
        lanes(to[0] + row) = lanes(value + row).cos();
        lanes(to[1] + row) = lanes(value + row).sin();
      }
    }
  }

  // Adds the derivatives by the features to dstate.
  void vjp(Features features, Index padded, Columns<const Scalar> dinputs, Columns<const Scalar> cache,
           Columns<Scalar> dstate) const {
    for (Index j = features.first; j < features.last; ++j) {
      const auto i = static_cast<std::size_t>(j);
      Scalar* dvalue = dstate[columns_[i]];
      const Columns<const Scalar> from = dinputs[inputs_[i]];
      for (Index row = 0; row < padded; row += kLanes) {
        if (!is_angle(i)) {
          lanes(dvalue + row) += lanes(from[0] + row);
        } else {
          const Lanes<Scalar> angle = lanes(cache[angles_[i]][0] + row);
          lanes(dvalue + row) += lanes(from[1] + row) * angle.cos() - lanes(from[0] + row) * angle.sin();
        }
      }
    }
  }

 private:
  bool is_angle(std::size_t feature) const { return angles_[feature].count > 0; }

  std::vector<Index> columns_;
  ColumnLayout inputs_layout_, cache_;
  std::vector<Region> inputs_, angles_;  // of each feature; a feature that is no angle has an empty region of angles
};

}  // namespace pushforward
