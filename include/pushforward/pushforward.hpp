// Flow, Ensemble, their files, and Adam. TableFlow, which few programs need and which takes seconds to compile, has a
// header of its own, table_flow.hpp.
#pragma once

#include "pushforward/adam.hpp"
#include "pushforward/ensemble.hpp"
#include "pushforward/error.hpp"
#include "pushforward/flow.hpp"
