// The shape of features that are pixels.
#pragma once

#include "pushforward/tile/sizes.hpp"

namespace pushforward {

// Features come channel by channel, and within a channel row by row.
struct ImageShape {
  Index channels, height, width;

  Index pixels() const { return height * width; }
  Index size() const { return channels * pixels(); }
};

}  // namespace pushforward
