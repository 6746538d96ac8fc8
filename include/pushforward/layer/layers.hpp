// The table of layers.
#pragma once

#include "pushforward/description/registry.hpp"
#include "pushforward/layer/actnorm.hpp"
#include "pushforward/layer/autoregressive.hpp"
#include "pushforward/layer/context_shift.hpp"
#include "pushforward/layer/coupling.hpp"
#include "pushforward/layer/householder.hpp"
#include "pushforward/layer/lu.hpp"
#include "pushforward/layer/permutation.hpp"

namespace pushforward {

template <class Scalar>
struct LayerEntry {
  // The layer at its place; null if it only renames columns.
  std::unique_ptr<Layer<Scalar>> (*make)(const Json&, const Place&);
  // The columns that hold the features on the layer's x side, from those on its z side; null if they are the same.
  std::vector<Index> (*columns_on_x_side)(const Json&, const std::vector<Index>&) = nullptr;
};

template <class Scalar>
Registry<LayerEntry<Scalar>>& layers() {
  static Registry<LayerEntry<Scalar>> table("layer", {{"Coupling", {&make_coupling<Scalar>}},
                                                      {"Autoregressive", {&make_autoregressive<Scalar>}},
                                                      {"ActNorm", {&make_actnorm<Scalar>}},
                                                      {"LU", {&make_lu<Scalar>, &permuted}},
                                                      {"Householder", {&make_householder<Scalar>}},
                                                      {"ContextShift", {&make_context_shift<Scalar>}},
                                                      {"Permutation", {&make_permutation<Scalar>, &permuted}}});
  return table;
}

}  // namespace pushforward
