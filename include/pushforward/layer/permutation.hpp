// A fixed permutation, x_i = z_indices[i]. It moves no data: it renames the columns that the next layers see.
#pragma once

#include <memory>

#include "pushforward/description/json.hpp"
#include "pushforward/layer/layer.hpp"
#include "pushforward/layer/place.hpp"

namespace pushforward {

// No layer: only the columns on its x side differ.
template <class Scalar>
std::unique_ptr<Layer<Scalar>> make_permutation(const Json& description, const Place&) {
  json::expect_names(description, {"kind", "order", "indices"});
  return nullptr;
}

// The columns after a permutation, x_i = z_indices[i].
inline void permute(const Json& description, Place& place) {
  const std::vector<Index>& columns = place.columns;
  std::vector<Index> result;
  std::vector<bool> seen(columns.size(), false);
  for (const Index i : json::integers_member(description, "indices", 0, static_cast<Index>(columns.size()) - 1)) {
    if (seen[static_cast<std::size_t>(i)])
      throw std::invalid_argument("a permutation's indices must hold each feature once");
    seen[static_cast<std::size_t>(i)] = true;
    result.push_back(columns[static_cast<std::size_t>(i)]);
  }
  if (result.size() != columns.size()) throw std::invalid_argument("a permutation needs one index per feature");
  place.columns = std::move(result);
}

}  // namespace pushforward
