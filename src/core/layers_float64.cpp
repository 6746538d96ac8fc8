// The layers, networks and transforms in double.
#include "pushforward/layer/layers.hpp"

namespace pushforward {

template class Network<double>;
template Registry<MakeNetwork<double>>& networks<double>();
template Registry<LayerEntry<double>>& layers<double>();

}  // namespace pushforward
