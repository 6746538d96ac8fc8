// The table of layers.
#pragma once

#include "pushforward/description/registry.hpp"
#include "pushforward/layer/actnorm.hpp"
#include "pushforward/layer/autoregressive.hpp"
#include "pushforward/layer/context_shift.hpp"
#include "pushforward/layer/conv1x1.hpp"
#include "pushforward/layer/coupling.hpp"
#include "pushforward/layer/householder.hpp"
#include "pushforward/layer/lu.hpp"
#include "pushforward/layer/permutation.hpp"
#include "pushforward/layer/split.hpp"
#include "pushforward/layer/squeeze.hpp"

namespace pushforward {

template <class Scalar>
struct LayerEntry {
  // The layer at its place; null if it only renames columns.
  std::unique_ptr<Layer<Scalar>> (*make)(const Json&, const Place&);
  // Changes the place on the layer's z side to that on its x side: other columns, another shape. Null if nothing
  // changes.
  void (*to_x_side)(const Json&, Place&) = nullptr;
  // The shape on the layer's z side, from that on its x side; null if it is the same.
  ImageShape (*shape_on_z_side)(const ImageShape&) = nullptr;
};

template <class Scalar>
Registry<LayerEntry<Scalar>>& layers() {
  static Registry<LayerEntry<Scalar>> table("layer",
                                            {{"Coupling", {&make_coupling<Scalar>}},
                                             {"Autoregressive", {&make_autoregressive<Scalar>}},
                                             {"ActNorm", {&make_actnorm<Scalar>}},
                                             {"LU", {&make_lu<Scalar>, &permute}},
                                             {"Householder", {&make_householder<Scalar>}},
                                             {"ContextShift", {&make_context_shift<Scalar>}},
                                             {"Permutation", {&make_permutation<Scalar>, &permute}},
                                             {"Conv1x1", {&make_conv1x1<Scalar>, &permute_channels}},
                                             {"Squeeze", {&make_squeeze<Scalar>, &to_x_side_of_squeeze, &squeezed}},
                                             {"Split", {&make_split<Scalar>, &to_x_side_of_split, &halved}}});
  return table;
}

}  // namespace pushforward
