// The layers, networks and transforms in double.
#include "pushforward/layer/layers.hpp"

namespace pushforward {

template Registry<LayerEntry<double>>& layers<double>();

}  // namespace pushforward
