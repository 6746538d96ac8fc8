// A run of a layer's features.
#pragma once

#include "pushforward/tile/sizes.hpp"

namespace pushforward {

// Numbers first ... last - 1.
struct Features {
  Index first, last;
};

}  // namespace pushforward
