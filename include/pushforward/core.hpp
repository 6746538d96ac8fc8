// The calls of the core. Their templates are compiled in each file that includes this one, or, with
// PUSHFORWARD_COMPILED, once in src/core: the target pushforward::compiled of the installed package does that.
#pragma once

#include "pushforward/adam.hpp"
#include "pushforward/engine/engine.hpp"
#include "pushforward/model/description.hpp"

#if !defined(PUSHFORWARD_COMPILED) || defined(PUSHFORWARD_COMPILING)
#include "pushforward/engine/adjoint.hpp"
#include "pushforward/engine/start.hpp"
#include "pushforward/model/make_stack.hpp"
#endif

#ifdef PUSHFORWARD_COMPILED

// kind: `extern` for a declaration, nothing for the definition.
#define PUSHFORWARD_ENGINE_TEMPLATES(kind, Scalar)                                                                    \
  kind template Stack<Scalar> make_stack<Scalar>(const nlohmann::json&, Index);                                       \
  kind template Stack<Scalar> make_stack_from_text<Scalar>(const std::string&, Index);                                \
  kind template void engine::map<Scalar>(const Stack<Scalar>&, Direction, const Table&, const Table*, const Results&, \
                                         int);                                                                        \
  kind template void engine::sample<Scalar>(const Stack<Scalar>&, const Draws&, Index, const Table*, const Results&,  \
                                            int);                                                                     \
  kind template double engine::vjp<Scalar>(const Stack<Scalar>&, Direction, const Table&, const Table*, const Seeds&, \
                                           const Gradients<Scalar>&, int);                                            \
  kind template void engine::base_log_prob<Scalar>(const Stack<Scalar>&, const Table&, double*, double, int);         \
  kind template void engine::sample_latent<Scalar>(const Stack<Scalar>&, const Draws&, Index, Output, double, int);   \
  kind template void engine::initialize<Scalar>(Stack<Scalar>&, const Table&, const Table*, const double*, int);      \
  kind template void engine::to_line<Scalar>(const Stack<Scalar>&, const Table&, double*, int);                       \
  kind template double norm<Scalar>(Index, const Scalar*, int);                                                       \
  kind template void adam_step<Scalar>(const AdamSettings&, Index, Index, Scalar*, const Scalar*, double, Scalar*,    \
                                       Scalar*, const Decayed&, int, const MovingAverage<Scalar>&);

#ifndef PUSHFORWARD_COMPILING
namespace pushforward {
PUSHFORWARD_ENGINE_TEMPLATES(extern, float)
PUSHFORWARD_ENGINE_TEMPLATES(extern, double)
}  // namespace pushforward
#endif

#endif
