// A flow from its description.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "pushforward/engine/stack.hpp"

namespace pushforward {

// Throws std::invalid_argument when the description is not a flow's, or has more than `most_parameters`: that is
// checked before they are allocated, since a file may name any number.
template <class Scalar>
Stack<Scalar> make_stack(const nlohmann::json& description, Index most_parameters = std::numeric_limits<Index>::max());

// The same from JSON text.
template <class Scalar>
Stack<Scalar> make_stack_from_text(const std::string& description,
                                   Index most_parameters = std::numeric_limits<Index>::max());

}  // namespace pushforward
