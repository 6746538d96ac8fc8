// The layers, networks and transforms in float.
#include "pushforward/layer/layers.hpp"

namespace pushforward {

template class Network<float>;
template Registry<MakeNetwork<float>>& networks<float>();
template Registry<LayerEntry<float>>& layers<float>();

}  // namespace pushforward
