// Everything: Flow, Ensemble, their files, and Adam.
#pragma once

#include "pushforward/adam.hpp"
#include "pushforward/ensemble.hpp"
#include "pushforward/error.hpp"
#include "pushforward/flow.hpp"
