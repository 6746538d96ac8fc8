// Everything: Flow, Ensemble, TableFlow, their files, and Adam.
#pragma once

#include "pushforward/adam.hpp"
#include "pushforward/ensemble.hpp"
#include "pushforward/error.hpp"
#include "pushforward/flow.hpp"
#include "pushforward/table_flow.hpp"
