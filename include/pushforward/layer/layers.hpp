// The table of layers.
#pragma once

#include "pushforward/description/registry.hpp"
#include "pushforward/layer/actnorm.hpp"
#include "pushforward/layer/autoregressive.hpp"
#include "pushforward/layer/coupling.hpp"
#include "pushforward/layer/householder.hpp"
#include "pushforward/layer/lu.hpp"
#include "pushforward/layer/permutation.hpp"

namespace pushforward {

template <class Scalar>
struct LayerEntry {
  // The layer where it is placed; null if it only renames columns.
  std::unique_ptr<Layer<Scalar>> (*make)(const Json&, const Place&);
  // The columns that hold the features behind the layer, from those in front of it; null if it changes none.
  std::vector<Index> (*columns_behind)(const Json&, const std::vector<Index>&) = nullptr;
};

template <class Scalar>
Registry<LayerEntry<Scalar>>& layers() {
  static Registry<LayerEntry<Scalar>> table("layer", {{"Coupling", {&make_coupling<Scalar>}},
                                                      {"Autoregressive", {&make_autoregressive<Scalar>}},
                                                      {"ActNorm", {&make_actnorm<Scalar>}},
                                                      {"LU", {&make_lu<Scalar>, &permuted}},
                                                      {"Householder", {&make_householder<Scalar>}},
                                                      {"Permutation", {&make_permutation<Scalar>, &permuted}}});
  return table;
}

}  // namespace pushforward
