// The table of supports.
#pragma once

#include "pushforward/data/circle.hpp"
#include "pushforward/data/interval.hpp"
#include "pushforward/data/pixel.hpp"
#include "pushforward/data/positive.hpp"
#include "pushforward/description/registry.hpp"

namespace pushforward {

inline Support make_real(const Json& description, bool /*boxed*/) {
  json::expect_names(description, {"kind"});
  return {};
}

// boxed: whether the base is uniform in boxes, so that an interval is one.
using MakeSupport = Support (*)(const Json&, bool boxed);

inline Registry<MakeSupport>& supports() {
  static Registry<MakeSupport> table("support", {{"Real", &make_real},
                                                 {"Positive", &make_positive},
                                                 {"Interval", &make_interval},
                                                 {"Circle", &make_circle},
                                                 {"Pixel", &make_pixel}});
  return table;
}

// The "support" of a flow's description, one entry per feature; without it every feature is real.
inline std::vector<Support> supports_of(const Json& description, Index dim, bool boxed) {
  if (!description.contains("support")) return std::vector<Support>(static_cast<std::size_t>(dim));
  const Json& entries = json::array_member(description, "support");
  if (entries.size() != static_cast<std::size_t>(dim))
    throw std::invalid_argument("'support' needs one entry per feature");
  std::vector<Support> result;
  for (const Json& entry : entries) result.push_back(supports().of(entry)(entry, boxed));
  return result;
}

}  // namespace pushforward
