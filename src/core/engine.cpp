// The engine, the base densities and the optimiser, in both precisions.
#define PUSHFORWARD_COMPILING
#include "pushforward/core.hpp"

namespace pushforward {

extern template class Network<float>;
extern template class Network<double>;
extern template Registry<MakeNetwork<float>>& networks<float>();
extern template Registry<MakeNetwork<double>>& networks<double>();
extern template Registry<LayerEntry<float>>& layers<float>();
extern template Registry<LayerEntry<double>>& layers<double>();
PUSHFORWARD_ENGINE_TEMPLATES(, float)
PUSHFORWARD_ENGINE_TEMPLATES(, double)

}  // namespace pushforward
