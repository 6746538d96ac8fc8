// The table of base densities.
#pragma once

#include "pushforward/base/mixture.hpp"
#include "pushforward/base/normal.hpp"
#include "pushforward/base/student_t.hpp"
#include "pushforward/base/uniform.hpp"
#include "pushforward/description/registry.hpp"

namespace pushforward {

template <class Scalar>
struct BaseEntry {
  // domains: of the features of the latent side.
  std::unique_ptr<Base<Scalar>> (*make)(const Json&, const std::vector<Domain>& domains);
  bool intervals_are_boxes = false;  // whether a feature with the support Interval is a box under this base
};

template <class Scalar>
Registry<BaseEntry<Scalar>>& bases() {
  static Registry<BaseEntry<Scalar>> table("base", {{"Normal", {&make_normal<Scalar>}},
                                                    {"Uniform", {&make_uniform<Scalar>, true}},
                                                    {"StudentT", {&make_student_t<Scalar>}},
                                                    {"Mixture", {&make_mixture<Scalar>}}});
  return table;
}

}  // namespace pushforward
