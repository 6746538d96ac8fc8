// The table of base densities.
#pragma once

#include <memory>

#include "pushforward/base/normal.hpp"
#include "pushforward/base/student_t.hpp"
#include "pushforward/base/uniform.hpp"
#include "pushforward/description/limits.hpp"
#include "pushforward/description/registry.hpp"

namespace pushforward {

// domains: of the features of the latent side.
template <class Scalar>
std::unique_ptr<Base<Scalar>> make_normal(const Json& description, const std::vector<Domain>& domains) {
  json::expect_names(description, {"kind"});
  return std::make_unique<Normal<Scalar>>(LatentFeatures(domains));
}

template <class Scalar>
std::unique_ptr<Base<Scalar>> make_uniform(const Json& description, const std::vector<Domain>& domains) {
  json::expect_names(description, {"kind"});
  return std::make_unique<Uniform<Scalar>>(LatentFeatures(domains));
}

template <class Scalar>
std::unique_ptr<Base<Scalar>> make_student_t(const Json& description, const std::vector<Domain>& domains) {
  json::expect_names(description, {"kind", "df", "learned"});
  const bool learned = json::boolean_member(description, "learned");
  const double df = json::number_member(description, "df", learned ? limits::kLearnedDegrees : limits::kDegrees);
  return std::make_unique<StudentT<Scalar>>(LatentFeatures(domains), df, learned);
}

template <class Scalar>
struct BaseEntry {
  std::unique_ptr<Base<Scalar>> (*make)(const Json&, const std::vector<Domain>&);
  bool intervals_are_boxes = false;  // whether a feature with the support Interval is a box under this base
};

template <class Scalar>
Registry<BaseEntry<Scalar>>& bases() {
  static Registry<BaseEntry<Scalar>> table("base", {{"Normal", {&make_normal<Scalar>}},
                                                    {"Uniform", {&make_uniform<Scalar>, true}},
                                                    {"StudentT", {&make_student_t<Scalar>}}});
  return table;
}

}  // namespace pushforward
