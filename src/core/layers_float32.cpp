// The layers, networks and transforms in float.
#include "pushforward/layer/layers.hpp"

namespace pushforward {

template Registry<LayerEntry<float>>& layers<float>();

}  // namespace pushforward
