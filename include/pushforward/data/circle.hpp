// The support Circle: angles and other periodic values, whose two bounds are one point.
#pragma once

#include "pushforward/data/linear.hpp"

namespace pushforward {

inline Support make_circle(const Json& description, bool /*boxed*/) {
  const auto [low, high] = bounds_of(description);
  return {low, high, true, Domain::circle, std::make_shared<Linear>(low, high, kPi, true)};
}

}  // namespace pushforward
