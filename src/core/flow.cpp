// The class of a C++ program, in both precisions.
#include "pushforward/flow.hpp"

namespace pushforward {

template class Flow<float>;
template class Flow<double>;

}  // namespace pushforward
