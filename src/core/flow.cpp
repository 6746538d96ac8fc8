// The classes of a C++ program, in both precisions.
#include "pushforward/ensemble.hpp"

namespace pushforward {

template class Flow<float>;
template class Flow<double>;
template class Ensemble<float>;
template class Ensemble<double>;

}  // namespace pushforward
