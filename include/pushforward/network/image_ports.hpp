// What a convolutional network reads and computes.
#pragma once

#include "pushforward/network/convolution.hpp"

namespace pushforward {

// The pixels of input and output, their channels, and the columns of context behind the input.
struct ImagePorts {
  Sites inputs, outputs;
  Index input_channels, output_channels, context;
};

}  // namespace pushforward
